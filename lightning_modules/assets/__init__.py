"""The tiny Stable Diffusion that ships with licet, for demonstrations and tests. `make base` makes it again."""

from pathlib import Path

TINY_SD = Path(__file__).parent / "tiny_sd"
"""A model folder in diffusers' layout, 64 x 64 pixels; its README.md is its card."""
