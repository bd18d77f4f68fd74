"""Where things lie in an output folder. Imported on executors too, so it imports nothing."""

CATALOG = "catalog"
"""The Delta tables."""

SHARDS = "shards/_shards"
"""Attempts' files: `<unit>/<attempt>.<extension>`."""

REPORTS = "shards/_reports"
"""Reports on their way to the driver; empty between runs."""
