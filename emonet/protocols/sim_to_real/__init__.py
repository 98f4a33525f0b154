"""Sim-to-real: classes of acted corpora from scores of emotions, without training on them."""
