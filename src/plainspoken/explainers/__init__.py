"""Explainers: from where a latent fires on the explain rows to sentences about it."""
