"""Workers' names as tenants see them."""


def shown_worker(name: str | None, *, operator: bool) -> str | None:
    """A worker's name for an operator; for anyone else its part before the `@`, without the host.

    That part (`gpu-1a2b3c4d`, made in `app/broker/celery_app.py`) is random and the worker's own
    until it restarts. So a tenant can see that two attempts met the same worker, and an operator
    finds that worker by what a tenant quotes.
    """
    return name if name is None or operator else name.partition("@")[0]
