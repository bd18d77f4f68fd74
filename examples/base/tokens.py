"""The base model's tokenizer: CLIP's byte-pair encoding, cut to the merges that a small model needs.

The whole vocabulary has 49,408 entries, and its embeddings would weigh as much as all the rest of the model. Kept are
the first (most frequent) merges, and every merge that the given words need, so that those words split as in CLIP.
The merges come from `bpe_simple_vocab_16e6.txt.gz` (OpenAI CLIP, MIT licence) inside the `open_clip_torch` package.
"""

import gzip
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

N_CLIP_MERGES = 49152 - 256 - 2  # CLIP reads this many lines of the file, after its heading
N_KEPT_MERGES = 8192
MAX_TOKENS = 32  # prompts here are short, and every cross-attention pays for its length
START, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"

Merge = tuple[str, str]


def clip_merges() -> list[Merge]:
    """CLIP's merges, most frequent first. Raises FileNotFoundError when `open_clip_torch` is not installed."""
    spec = find_spec("open_clip")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("CLIP's merges are in the package open_clip_torch: pip install open_clip_torch")
    text = gzip.decompress((Path(spec.origin).parent / "bpe_simple_vocab_16e6.txt.gz").read_bytes()).decode("utf-8")
    lines = text.split("\n")[1 : N_CLIP_MERGES + 1]
    return [(left, right) for left, right in (line.split() for line in lines)]


def merges_of(word: str, ranks: dict[Merge, int]) -> set[Merge]:
    """The merges that byte-pair encoding applies to one lower-case ASCII word."""
    parts = [*word[:-1], word[-1] + WORD_END]
    used = set()
    while pairs := [pair for pair in pairwise(parts) if pair in ranks]:
        best = min(pairs, key=ranks.__getitem__)
        used.add(best)
        merged, i = [], 0
        while i < len(parts):
            if tuple(parts[i : i + 2]) == best:
                merged.append("".join(best))
                i += 2
            else:
                merged.append(parts[i])
                i += 1
        parts = merged
    return used


def small_tokenizer(words: set[str]) -> CLIPTokenizer:
    """A CLIPTokenizer with the first N_KEPT_MERGES merges of CLIP's, and those that `words` need."""
    merges = clip_merges()
    ranks = {merge: rank for rank, merge in enumerate(merges)}
    needed = set().union(*(merges_of(word, ranks) for word in words))
    kept = [merge for rank, merge in enumerate(merges) if rank < N_KEPT_MERGES or merge in needed]
    symbols = list(bytes_to_unicode().values())
    entries = [*symbols, *(symbol + WORD_END for symbol in symbols), *("".join(merge) for merge in kept), START, END]
    return CLIPTokenizer(
        vocab={entry: i for i, entry in enumerate(entries)},
        merges=kept,
        pad_token=END,
        model_max_length=MAX_TOKENS,
    )
