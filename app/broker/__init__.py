"""Celery and Redis: messages, claims and progress. All of it may be lost."""
