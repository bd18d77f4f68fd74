"""What the denoiser is told about each crop: the class, sometimes a cat's coat, sometimes a word that means nothing.

DreamBooth teaches a rare token ("a photo of sks cat"). Before that, the base must draw some cat for it, as it must for
any word it does not know: so one caption in seven carries a random word before the noun. The rare token itself is never
used in training.
"""

import re

import torch

from examples.base.tokens import WORD_END

RARE_TOKEN = "sks"
P_EMPTY = 0.10  # for classifier-free guidance
P_RANDOM_WORD = 0.15
P_COAT = 0.25


def words_of(prompts: list[str]) -> set[str]:
    """The words of some prompts."""
    return {word for prompt in prompts for word in prompt.split()}


def meaningless_words(vocabulary: list[str], meaningful: set[str]) -> list[str]:
    """Short whole words of a tokenizer's vocabulary, each one token, that no training prompt uses; sorted."""
    words = {entry.removesuffix(WORD_END) for entry in vocabulary if re.fullmatch(r"[a-z]{3,5}" + WORD_END, entry)}
    return sorted(words - meaningful - {RARE_TOKEN})


def draw_caption(class_prompt: str, coat: str, words: list[str], generator: torch.Generator) -> str:
    """One caption for a crop of a class: "", "a photo of a cat", "a photo of a grey cat" or "a photo of zoo cat"."""
    chance = float(torch.rand((), generator=generator))
    if chance < P_EMPTY:
        return ""
    if chance < P_EMPTY + P_RANDOM_WORD:
        word = words[int(torch.randint(len(words), (), generator=generator))]
        return f"a photo of {word} {noun_of(class_prompt)}"
    if coat and chance < P_EMPTY + P_RANDOM_WORD + P_COAT:
        return f"a photo of a {coat} {noun_of(class_prompt)}"
    return class_prompt


def noun_of(class_prompt: str) -> str:
    """ "cat" for "a photo of a cat"."""
    return re.sub(r"^a photo of (an? |the )?", "", class_prompt)
