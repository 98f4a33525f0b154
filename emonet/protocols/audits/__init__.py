"""Audits of a model: what perturbed recordings do to its figures, and whom it serves worse."""
