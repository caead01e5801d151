"""Measurements of the real parts, each beside something to compare with in the same run."""
