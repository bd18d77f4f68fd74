"""Where things lie in an output folder. Imported on executors too, so it imports nothing."""

CATALOG = "catalog"
"""The Delta tables."""

SHARDS = "shards/_shards"
"""Attempts' files: `<unit>/<attempt>.<extension>`."""

REPORTS = "shards/_reports"
"""Reports on their way to the driver; empty between runs."""

RUN_REPORT = "report"
"""What a person reads of the run, while it runs and after it: page, JSON, TensorBoard's event files."""
