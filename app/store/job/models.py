"""Tables of queues, beside the jobs that wait in them: fairness between owners, and floors."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from app.store.base import Base


class FairTagRow(Base):
    """Release 0.1.0's marks. Nothing else reads or writes them."""

    __tablename__ = "fair_tags"
    __table_args__ = (Index("ix_fair_tags_queue", "profile", "region", "priority", "finish"),)

    owner_id: Mapped[UUID] = mapped_column(ForeignKey("api_keys.id"), primary_key=True)
    profile: Mapped[str] = mapped_column(primary_key=True)
    region: Mapped[str] = mapped_column(primary_key=True)
    priority: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    finish: Mapped[float]


class FairMarkRow(Base):
    """Where an owner's next job stands in virtual time, for one queue: job/fair.py.

    Of two rows that first submits at the same moment left, the later finish counts.
    """

    __tablename__ = "fair_marks"
    __table_args__ = (
        # In a form that look-ups of one owner's mark do not have (last_finish_sql in job/queue.py).
        Index(
            "ix_fair_marks_queue",
            text("('' || profile)"),
            text("('' || region)"),
            text("(priority + 0)"),
            text("(finish + 0)"),
        ),
    )

    owner_id: Mapped[UUID] = mapped_column(ForeignKey("api_keys.id"), primary_key=True)
    profile: Mapped[str] = mapped_column(primary_key=True)
    region: Mapped[str] = mapped_column(primary_key=True)
    priority: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    # The virtual finish of the owner's last job.
    finish: Mapped[float] = mapped_column(primary_key=True)


class QueueFloorRow(Base):
    """What no waiting job of a queue starts below: job/floors.py. A hint; jobs are the truth."""

    __tablename__ = "queue_floors"

    profile: Mapped[str] = mapped_column(primary_key=True)
    region: Mapped[str] = mapped_column(primary_key=True)
    priority: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    vstart: Mapped[float]  # walks of the queue begin here
    next_vstart: Mapped[float]  # the next floor; a trigger lifts jobs that join the queue to it
    set_at: Mapped[datetime]
