"""The places where batches run."""
