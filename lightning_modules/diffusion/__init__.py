"""Diffusion training: the LightningModule, its losses, and one file per model family."""
