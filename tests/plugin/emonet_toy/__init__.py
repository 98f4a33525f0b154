"""A corpus, an encoder and a scorer for emonet."""
