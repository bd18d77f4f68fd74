"""The photos of the examples: which packages hold them, and on what terms."""
