"""Postgres, the truth about every job."""
