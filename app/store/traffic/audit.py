"""Operators' access to jobs of other keys, in the audit."""

from typing import Literal

from sqlalchemy import Connection, text

from app.store.keys import ApiKey

Verb = Literal["jobs.read", "jobs.follow", "jobs.cancel"]

AGAIN_S = 600.0  # a page that polls a job writes one entry per this time

# Plan: ix_audit_entries_subject.
_NOTE = text(
    """
    INSERT INTO audit_entries (key_id, key_name, verb, subject)
    SELECT :key_id, :key_name, :verb, :subject
    WHERE NOT EXISTS (
        SELECT FROM audit_entries
        WHERE subject = :subject AND key_id = :key_id AND verb = :verb
          AND at > now() - make_interval(secs => :again))
    """
)


def note_access(tx: Connection, key: ApiKey, verb: Verb, subject: str) -> None:
    """Write that an operator's key reached a job, unless that was noted within AGAIN_S."""
    values = {"key_id": key.id, "key_name": key.name, "verb": verb, "subject": subject}
    tx.execute(_NOTE, values | {"again": AGAIN_S})
