"""Scorers: how well an explanation predicts its latent."""
