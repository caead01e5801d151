"""Celery and Redis: hints, claims and progress. Everything here may be lost."""
