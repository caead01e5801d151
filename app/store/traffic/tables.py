"""Versions of the routing table, and the lock that makes one controller the leader.

The lock belongs to a database session, and tables are written in that session: a leader that has
lost its session cannot write.
"""

from sqlalchemy import Connection, insert, select, text

from app.domain.routing.table import Table
from app.store.traffic.models import RoutingTableRow

LEADER_LOCK = 0x5717_1109  # an advisory lock of the database
KEEP_VERSIONS = 10_000  # about a day


def lead(session: Connection, *, idle_s: float) -> bool:
    """Try to become the leader for as long as `session` lives.

    The server ends a session that is silent for `idle_s`, or whose host is gone: a leader that
    hangs is replaced like one that died.
    """
    idle_ms = int(idle_s * 1000)
    session.execute(
        text(
            "SELECT set_config('idle_session_timeout', :idle, false),"
            " set_config('tcp_keepalives_idle', '5', false),"
            " set_config('tcp_keepalives_interval', '2', false),"
            " set_config('tcp_keepalives_count', '2', false),"
            " set_config('tcp_user_timeout', :idle, false)"
        ),
        {"idle": str(idle_ms)},
    )
    return bool(
        session.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": LEADER_LOCK}).scalar()
    )


def has_leader(tx: Connection) -> bool:
    """Whether any dispatcher of this database leads now."""
    held = text(
        "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted"
        " AND classid = 0 AND objid = :key AND database ="
        " (SELECT oid FROM pg_database WHERE datname = current_database()))"
    )
    return bool(tx.execute(held, {"key": LEADER_LOCK}).scalar_one())


def still_leads(session: Connection) -> None:
    """Keep the session alive. Raises if it is lost."""
    session.execute(text("SELECT 1"))


def latest(tx: Connection) -> str | None:
    """The newest version, as JSON."""
    newest = select(RoutingTableRow.body).order_by(RoutingTableRow.version.desc()).limit(1)
    return tx.execute(newest).scalar_one_or_none()


def newest_version(tx: Connection) -> int:
    """The number of the newest version, readable or not; 0 if there is none."""
    newest = select(RoutingTableRow.version).order_by(RoutingTableRow.version.desc()).limit(1)
    return tx.execute(newest).scalar_one_or_none() or 0


def publish(session: Connection, table: Table, made_by: str) -> None:
    """Write a version. Raises IntegrityError if the number is taken."""
    session.execute(
        insert(RoutingTableRow).values(version=table.version, made_by=made_by, body=table.to_json())
    )
    session.execute(
        text("DELETE FROM routing_tables WHERE version <= :old"),
        {"old": table.version - KEEP_VERSIONS},
    )
