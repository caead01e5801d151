"""Stillmotion: everything that runs without a GPU."""
