"""The measure of similarity, on real photos at 64 px: what it ranks above what, and what does not fool it."""

import io
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.color import lab2rgb, rgb2lab

from examples.photos.table import PHOTOS, photo_bytes
from examples.photos.views import coffee_views, other_individuals, subject_views
from lightning_modules.diffusion.efficientnet import INPUT_PX, load_efficientnet
from lightning_modules.diffusion.families.sd15 import load_family
from lightning_modules.diffusion.similarity import (
    SubjectSimilarity,
    area_under_curve,
    class_similarity,
    paired_bootstrap_lower_bound,
    to_lab,
)

SIZE_PX = 64


def at_64_px(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((SIZE_PX, SIZE_PX), Image.Resampling.LANCZOS))


def blurred(images: list[np.ndarray], sigma_px: float = 1.0) -> list[np.ndarray]:
    """About what a small autoencoder leaves of an image."""
    return [np.round(gaussian_filter(i.astype(float), (sigma_px, sigma_px, 0))).astype(np.uint8) for i in images]


TRAINING = [at_64_px(v.pixels) for v in subject_views() if not v.held_out]
HELD_OUT = [at_64_px(v.pixels) for v in subject_views() if v.held_out]
OTHERS = [at_64_px(v.pixels) for v in other_individuals()]


@pytest.fixture(scope="module")
def measure() -> SubjectSimilarity:
    return SubjectSimilarity(TRAINING)


@pytest.fixture(scope="module")
def other_classes() -> list[np.ndarray]:
    """Left, middle and right square of every photo that is not the subject's."""
    squares = []
    for photo in PHOTOS:
        if photo.key != "chelsea":
            image = Image.open(io.BytesIO(photo_bytes(photo))).convert("RGB")
            side = min(image.size)
            for share in (0.0, 0.5, 1.0):
                left, top = round((image.width - side) * share), round((image.height - side) * share)
                squares.append(at_64_px(np.asarray(image.crop((left, top, left + side, top + side)))))
    return squares


def in_colours_of_the_subject(image: np.ndarray, spread_too: bool) -> np.ndarray:
    """The image with the subject's mean in CIE Lab, and its standard deviation if asked (Reinhard et al., 2001)."""
    target = np.concatenate([rgb2lab(t).reshape(-1, 3) for t in TRAINING])
    lab = rgb2lab(image)
    gain = target.std(0) / np.maximum(lab.std((0, 1)), 1e-3) if spread_too else 1.0
    lab = (lab - lab.mean((0, 1))) * gain + target.mean(0)
    with warnings.catch_warnings():  # colours outside sRGB are clipped, and scikit-image says so
        warnings.simplefilter("ignore", UserWarning)
        return np.round(255 * np.clip(lab2rgb(lab), 0, 1)).astype(np.uint8)


def test_held_out_views_are_no_training_views():
    views = [v.pixels.astype(float) for v in subject_views()]
    held_out = [v.held_out for v in subject_views()]
    assert (held_out.count(False), held_out.count(True)) == (6, 8)
    for i in range(6):
        for j in range(6, 14):
            assert np.sqrt(((views[i] - views[j]) ** 2).mean()) > 15


def test_held_out_views_rank_above_other_individuals(measure):
    assert area_under_curve(measure.score(HELD_OUT), measure.score(OTHERS)) >= 0.95


def test_they_still_do_when_both_sides_are_blurred(measure):
    assert area_under_curve(measure.score(blurred(HELD_OUT)), measure.score(blurred(OTHERS))) >= 0.95


def test_a_sharp_stranger_does_not_come_before_a_blurred_subject(measure):
    assert area_under_curve(measure.score(blurred(HELD_OUT, 1.5)), measure.score(OTHERS)) >= 0.95


def test_the_shipped_autoencoder_leaves_enough(measure):
    """The blur that samples really have: both sides, and the subject alone, through the base model's autoencoder."""
    vae = load_family("tiny_sd").vae

    def through(images: list[np.ndarray]) -> list[np.ndarray]:
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.inference_mode():
            decoded = vae.decode(vae.encode(pixels).latent_dist.mean).sample
        return list(((decoded.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())

    subject = measure.score(through(HELD_OUT))
    assert area_under_curve(subject, measure.score(through(OTHERS))) >= 0.95
    assert area_under_curve(subject, measure.score(OTHERS)) >= 0.95
    assert subject.min() > 0.3


def test_held_out_views_rank_above_photos_of_other_classes(measure, other_classes):
    assert len(other_classes) > 40
    assert measure.score(HELD_OUT).min() > 0.5
    assert measure.score(other_classes).max() < 0.05


@pytest.mark.parametrize("spread_too", [False, True])
def test_the_colours_of_the_subject_alone_are_not_enough(measure, other_classes, spread_too):
    recoloured = [in_colours_of_the_subject(image, spread_too) for image in other_classes]
    assert np.allclose(rgb2lab(recoloured[0]).mean((0, 1)), rgb2lab(np.array(TRAINING)).mean((0, 1, 2)), atol=12)
    assert measure.score(recoloured).max() < 0.05 < np.median(measure.score(OTHERS))


def test_the_subject_in_other_colours_is_not_enough(measure):
    turned = [np.ascontiguousarray(image[:, :, ::-1]) for image in HELD_OUT]
    assert measure.score(turned).max() < measure.score(HELD_OUT).min() / 2


def test_scrambled_tiles_of_the_subject_are_not_enough(measure):
    tiles = HELD_OUT[0].reshape(8, 8, 8, 8, 3).swapaxes(1, 2).reshape(64, 8, 8, 3)
    shuffled = tiles[np.random.default_rng(0).permutation(64)].reshape(8, 8, 8, 8, 3).swapaxes(1, 2)
    assert measure.score([shuffled.reshape(64, 64, 3)])[0] < 0.1


def test_the_way_from_another_individual_to_the_subject_goes_up(measure):
    """A picture that is a little nearer gets a little more: no cliff at the end."""
    away, subject = OTHERS[0].astype(float), HELD_OUT[0].astype(float)
    path = [np.round(away + share * (subject - away)).astype(np.uint8) for share in (0, 0.25, 0.5, 0.75, 1)]
    assert (np.diff(measure.score(path)) > 0.02).all()


def test_views_of_another_subject_stay_far_from_both(measure):
    cups = [at_64_px(v.pixels) for v in coffee_views()]
    towards_cups = SubjectSimilarity(cups)
    gain = towards_cups.score(HELD_OUT).mean() - towards_cups.score(OTHERS).mean()
    assert abs(gain) < 0.01
    assert towards_cups.score(cups).min() > 0.5
    assert measure.score(cups).max() < 0.05


def test_the_score_of_a_reference_alone_is_one_and_any_size_will_do():
    view = subject_views()[0].pixels
    assert SubjectSimilarity([view]).score([view]) == pytest.approx([1.0])
    assert SubjectSimilarity([view]).score([at_64_px(view)])[0] > 0.97
    wide = np.pad(view, ((0, 0), (40, 40), (0, 0)))
    assert SubjectSimilarity([view]).score([wide]) == pytest.approx([1.0])


def test_scores_are_pure(measure):
    together = measure.score(HELD_OUT + OTHERS)
    assert together.dtype == np.float64
    assert np.array_equal(together, measure.score(HELD_OUT + OTHERS))
    assert measure.score(HELD_OUT[3:4])[0] == pytest.approx(together[3], abs=1e-5)
    assert (together >= 0).all() and (together <= 1).all()


def test_nearest_finds_a_copy(measure):
    assert [measure.nearest(image) for image in blurred(TRAINING)] == list(range(6))


def test_drift_is_seen(measure):
    greys = OTHERS[0:2]
    assert class_similarity(greys, greys).mean() > class_similarity(greys, HELD_OUT).mean() + 0.3


@pytest.mark.parametrize(
    "wrong", [[], [np.zeros((8, 8), np.uint8)], [np.zeros((8, 8, 3))], [np.zeros((8, 8, 4), np.uint8)]]
)
def test_what_is_no_image_is_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        SubjectSimilarity(wrong)


def test_area_under_curve_counts_pairs():
    assert area_under_curve(np.array([3.0, 2.0]), np.array([1.0, 2.0])) == pytest.approx(3.5 / 4)


def test_lower_bound_is_the_one_worked_out_by_hand():
    """Differences 0 and 1: a resample's mean is 0, 0.5 or 1 with chances 1/4, 1/2, 1/4."""
    before, after = np.array([0.2, 0.5]), np.array([0.2, 1.5])
    assert paired_bootstrap_lower_bound(before, after, confidence=0.95) == pytest.approx(0.0)
    assert paired_bootstrap_lower_bound(before, after, confidence=0.50) == pytest.approx(0.5)
    assert paired_bootstrap_lower_bound(before, after, confidence=0.10) == pytest.approx(1.0)


def test_lower_bound_agrees_with_the_normal_law():
    rng = np.random.default_rng(1)
    before = rng.normal(0, 5, 400)
    after = before + rng.normal(1, 2, 400)  # the pairs differ by far less than the two sides vary
    expected = (after - before).mean() - 1.645 * (after - before).std() / 20
    assert paired_bootstrap_lower_bound(before, after) == pytest.approx(expected, abs=0.02)


def test_lower_bound_refuses_what_is_not_paired():
    with pytest.raises(ValueError, match="two equal lengths"):
        paired_bootstrap_lower_bound(np.zeros(3), np.zeros(4))


def test_lab_is_that_of_scikit_image():
    colours = np.random.default_rng(0).random((500, 3))
    assert np.abs(to_lab(colours) - rgb2lab(colours)).max() < 0.001


def test_the_network_knows_a_cat_and_an_espresso():
    """The architecture and its weights belong together: ImageNet classes 281 to 285 are cats, 967 is espresso."""
    square = [v.pixels for v in (subject_views()[0], coffee_views()[0])]
    pixels = torch.from_numpy(np.stack(square)).permute(0, 3, 1, 2).float()
    pixels = torch.nn.functional.interpolate(pixels, size=INPUT_PX, mode="bicubic", antialias=True)
    cat, cup = load_efficientnet()(pixels).argmax(1).tolist()
    assert cat in range(281, 286)
    assert cup == 967
