"""What happens around training steps: checkpoints, sample grids, class images, the adapter's ledger."""
