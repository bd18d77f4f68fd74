"""From a manifest to batches: which sample at which position, decoded and collated."""
