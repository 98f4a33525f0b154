"""Perturbations of speech: their kinds and levels, noises and rooms, codecs."""
