"""A pool of training crops, drawn once, so that neither training phase waits for augmentation."""

from dataclasses import dataclass

import numpy as np
import torch

from examples.base.pixels import SUBJECT_KEY, TrainingPhoto, draw_crop

CATS_EVERY = 2  # every second crop is a cat; the others take turns

# Channel orders that the autoencoder also sees, so that it learns every colour and not only those of twelve photos.
CHANNEL_ORDERS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))


@dataclass(frozen=True)
class Pool:
    """N crops with what each shows."""

    pixels: torch.Tensor  # (N, 3, CROP_PX, CROP_PX) uint8
    class_prompts: list[str]  # N; "a photo of a cat"
    coats: list[str]  # N; a cat's coat, "" for the rest
    is_cat: torch.Tensor  # (N,) bool

    def __len__(self) -> int:
        return len(self.class_prompts)


def draw_pool(photos: list[TrainingPhoto], n_crops: int, seed: int) -> Pool:
    """Draw `n_crops` crops; crop i depends on `seed` and i alone."""
    cats = [photo for photo in photos if photo.key == SUBJECT_KEY]
    others = [photo for photo in photos if photo.key != SUBJECT_KEY]
    pixels, prompts, coats, is_cat = [], [], [], []
    for i in range(n_crops):
        turn = i // CATS_EVERY
        group = cats if i % CATS_EVERY == 0 else others
        photo = group[(turn * (CATS_EVERY - 1) + i % CATS_EVERY) % len(group)]
        crop, coat = draw_crop(photo, np.random.default_rng([seed, i]))
        pixels.append(torch.from_numpy(crop).permute(2, 0, 1))
        prompts.append(photo.class_prompt)
        coats.append(coat)
        is_cat.append(photo.key == SUBJECT_KEY)
    return Pool(torch.stack(pixels), prompts, coats, torch.tensor(is_cat))


def autoencoder_batch(pool: Pool, batch_size: int, generator: torch.Generator) -> torch.Tensor:
    """(batch_size, 3, CROP_PX, CROP_PX) float32 in [-1, 1]; crops other than cats get a random channel order.

    A cat keeps its channels: swapping them could bring back the colours of the subject.
    """
    index = torch.randint(len(pool), (batch_size,), generator=generator)
    order = torch.tensor(CHANNEL_ORDERS)[torch.randint(len(CHANNEL_ORDERS), (batch_size,), generator=generator)]
    order[pool.is_cat[index]] = torch.tensor(CHANNEL_ORDERS[0])
    crops = pool.pixels[index]
    crops = torch.gather(crops, 1, order[:, :, None, None].expand_as(crops))
    return crops.float() / 127.5 - 1
