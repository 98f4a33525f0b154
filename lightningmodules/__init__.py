"""LightningModules: they wire networks of `emonet` to losses, metrics and optimisers, and hold no arithmetic."""
