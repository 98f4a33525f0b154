"""LightningDataModules: clips to caption batches, the feature store to batches for the experts."""
