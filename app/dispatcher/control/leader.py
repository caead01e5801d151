"""One leader among all dispatchers, for as long as its database session lives."""

from collections.abc import Callable
from threading import Event

import structlog
from sqlalchemy import Connection

from app.domain.errors import DatabaseUnavailable
from app.metrics import leading
from app.store.session import Store
from app.store.traffic import tables

log = structlog.get_logger(__name__)

CANDIDATE_S = 2.0  # between attempts to become the leader
WATCH_S = 1.0  # between signs of life


def lead(
    store: Store,
    name: str,
    work: Callable[[Connection], float],
    stopping: Event,
    *,
    leads: Event,
    idle_s: float,
) -> None:
    """Call `work(session)` again and again while `name` leads, until `stopping` is set.
    `leads` is set meanwhile.

    `work` returns the seconds to its next turn. In between it keeps the session alive: a leader
    that is silent for `idle_s` loses the lead, a dead one at once.
    """
    while not stopping.is_set():
        try:
            with store.session() as session:
                while not stopping.is_set():
                    if tables.lead(session, idle_s=idle_s):
                        break
                    stopping.wait(CANDIDATE_S)
                else:
                    return
                log.info("lead_taken", name=name)
                leading.set(1)
                leads.set()
                while not stopping.is_set():
                    pause_s = work(session)
                    while pause_s > 0.0 and not stopping.wait(min(WATCH_S, pause_s)):
                        pause_s -= WATCH_S
                        tables.still_leads(session)
        except DatabaseUnavailable as error:
            log.warning("lead_lost", error=str(error))
            stopping.wait(CANDIDATE_S)
        finally:
            leading.set(0)
            leads.clear()
