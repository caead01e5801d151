"""Jobs by the labels that their clients gave them.

`job_labels` has one row for each label of a job that is kept, in the order of ids, so a rare label
is found at once among any number of jobs. A trigger writes the rows (migration 0012), so the
previous release's submits have them too; a purge deletes them. An index on `jobs.metadata` would be
written again with every change of a job's state.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text

COUNTED = 1000  # labels of more jobs are equally frequent

_COUNT = text(
    """
    SELECT count(*) FROM (
        SELECT FROM job_labels WHERE owner_id = :owner AND label = :label LIMIT :most) AS counted
    """
)
_WALK = """
    SELECT job_id FROM job_labels
    WHERE (owner_id, label, job_id) > (:owner, :label, :above)
      AND (owner_id, label, job_id) < (:owner, :label, :below)
    ORDER BY owner_id {order}, label {order}, job_id {order} LIMIT :limit
"""
_NEWEST_FIRST, _OLDEST_FIRST = (text(_WALK.format(order=order)) for order in ("DESC", "ASC"))
LOWEST, HIGHEST = UUID(int=0), UUID(int=2**128 - 1)


class Between(NamedTuple):
    """A range of ids, without its ends."""

    above: UUID
    below: UUID

    def beyond(self, last: UUID, newest_first: bool) -> "Between":
        """What is left of it after a page whose last id was `last`."""
        return self._replace(below=last) if newest_first else self._replace(above=last)


def digest(name: str, value: str) -> bytes:
    """What stands for a label: 8 bytes. Two labels may share them, so look at the job as well."""
    return sha256(f"{name}\x1f{value}".encode()).digest()[:8]


def rarest(tx: Connection, owner_id: UUID, asked: Mapping[str, str]) -> bytes:
    """Of these labels, the digest of the one that the fewest of the owner's jobs have.

    Plan: pk_job_labels, up to COUNTED entries for each.
    """
    digests = [digest(name, value) for name, value in asked.items()]
    if len(digests) == 1:
        return digests[0]

    def count(label: bytes) -> int:
        values = {"owner": owner_id, "label": label, "most": COUNTED}
        return int(tx.execute(_COUNT, values).scalar_one())

    return min(digests, key=count)


def walk(
    tx: Connection,
    owner_id: UUID,
    label: bytes,
    *,
    between: Between,
    limit: int,
    newest_first: bool,
) -> list[UUID]:
    """The next `limit` of the owner's jobs with a label, in order.

    Plan: a walk along pk_job_labels.
    """
    values = {"owner": owner_id, "label": label, "limit": limit, **between._asdict()}
    return list(tx.execute(_NEWEST_FIRST if newest_first else _OLDEST_FIRST, values).scalars())
