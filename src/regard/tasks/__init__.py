"""Tasks: examples → batch, loss, metrics, one file each."""
