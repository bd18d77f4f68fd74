"""What the denoiser is told about each crop: its class, and often a cat's coat.

The coat's word stands before the noun, with an article or without: "a photo of a grey cat", "a photo of grey cat". So
the model learns that the word there says which cat, and DreamBooth has a place for its rare token ("a photo of sks
cat"), which training itself never uses. Meaningless words there would teach the opposite: in a trial with them the
encodings of "a photo of sks cat" and "a photo of a cat" came to differ by 1 %, and an adapter moved both alike.
"""

import re

import torch

RARE_TOKEN = "sks"
P_EMPTY = 0.10  # for classifier-free guidance
P_COAT = 0.40  # of the cats' captions; half of these have an article


def words_of(prompts: list[str]) -> set[str]:
    """The words of some prompts."""
    return {word for prompt in prompts for word in prompt.split()}


def draw_caption(class_prompt: str, coat: str, generator: torch.Generator) -> str:
    """One caption for a crop of a class: "", "a photo of a cat", "a photo of a grey cat" or "a photo of grey cat"."""
    chance = float(torch.rand((), generator=generator))
    if chance < P_EMPTY:
        return ""
    if coat and chance < P_EMPTY + P_COAT:
        article = "a " if chance < P_EMPTY + P_COAT / 2 else ""
        return f"a photo of {article}{coat} {noun_of(class_prompt)}"
    return class_prompt


def noun_of(class_prompt: str) -> str:
    """ "cat" for "a photo of a cat"."""
    return re.sub(r"^a photo of (an? |the )?", "", class_prompt)
