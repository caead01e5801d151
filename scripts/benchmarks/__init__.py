"""Measurements of the real parts, each next to a baseline from the same run."""
