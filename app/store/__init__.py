"""Postgres: the authoritative state of every job."""
