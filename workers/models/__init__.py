"""Commands for who serves models: `python -m workers.models`."""
