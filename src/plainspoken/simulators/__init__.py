"""Simulators: from sentences and tokens alone to the level at which each latent is expected to fire."""
