"""Polite and safe HTTP for hostile lists of URLs. Knows nothing of images, rows, policies or shards."""
