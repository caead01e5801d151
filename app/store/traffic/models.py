"""The tables of traffic: routing tables, operators' controls and their audit."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.store.base import Base


class RoutingTableRow(Base):
    """One version of the routing table. The latest is in force; the others are history."""

    __tablename__ = "routing_tables"

    version: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    made_by: Mapped[str]  # the controller
    body: Mapped[str]  # app.domain.routing.table.Table as JSON


class ControlRow(Base):
    """One operator's decision in force. Without a row the default applies."""

    __tablename__ = "controls"
    __table_args__ = (
        CheckConstraint(
            "setting IN ('drained', 'cap', 'drained_worker', 'pinned')", name="setting_known"
        ),
        CheckConstraint(
            "(setting = 'cap') = (value IS NOT NULL) AND value >= 0", name="cap_has_value"
        ),
    )

    setting: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(primary_key=True)  # region, worker, or "table"
    value: Mapped[int | None] = mapped_column(BigInteger)


class AuditRow(Base):
    """One change by an operator: who, what, when, the value before and after."""

    __tablename__ = "audit_entries"
    # Whether somebody's access to a job was noted not long ago.
    __table_args__ = (Index("ix_audit_entries_subject", "subject", "key_id", "at"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    key_id: Mapped[UUID] = mapped_column(ForeignKey("api_keys.id"))
    key_name: Mapped[str]
    verb: Mapped[str]
    subject: Mapped[str]
    old: Mapped[Any | None] = mapped_column(JSONB)
    new: Mapped[Any | None] = mapped_column(JSONB)
