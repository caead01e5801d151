"""At placement: the regions that one job may use, in the order in which to ask for a worker."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from uuid import UUID

from app.domain.routing.load import SMALL_POOL
from app.domain.routing.table import Mode, Table, mode
from app.domain.routing.topology import Ring, Topology
from stillmotion.states import Policy


@dataclass(frozen=True)
class RoutingRequest:
    """What routing needs to know about a job. `allowed` None means every region."""

    job_id: UUID
    home: str
    policy: Policy = Policy.RING
    allowed: Collection[str] | None = None

    @cached_property
    def draw(self) -> float:
        """A number in [0, 1) derived from the job's id, so that every dispatcher draws the same."""
        digest = blake2b(self.job_id.bytes, digest_size=8).digest()
        return (int.from_bytes(digest, "big") >> 11) / (1 << 53)


def drawn(row: Mapping[str, float], draw: float) -> str | None:
    """The region of a share row that `draw` in [0, 1) falls on. Weights need not sum to 1."""
    total = sum(row.values())
    if total <= 0.0:
        return None
    left = draw * total
    last = None
    for region in sorted(row):
        if row[region] <= 0.0:
            continue
        last = region
        left -= row[region]
        if left < 0.0:
            break
    return last


def candidates(
    request: RoutingRequest,
    topology: Topology,
    table: Table | None,
    age_s: float | None,
    *,
    ready: Mapping[str, int],
    in_flight: Mapping[str, int],
    rounds: int = 0,
    unlisted_spare: int = 1,
) -> Iterator[str]:
    """Regions to ask for a worker, best first, each once. Pure: the caller supplies time and pools.

    `age_s`: of the table. `ready`: workers per region as the dispatcher sees them; a region missing
    from it is unknown, one at 0 is down.
    `in_flight`: workers per region that overflow of this home still holds, sent *since the table
    was made* (the table's spare accounts for older overflow); without a table, all of it. They
    count against spare workers, or every dispatcher would send its overflow to the same idle ones.
    `rounds`: probe rounds in which every region asked has refused; each opens one more ring to a
    `ring` job. `unlisted_spare`: workers per region that this home may use when no table lists the
    spare ones (`table.local_spare`).

    Yields at least one region, where the job waits if all refuse, unless the allow-list is empty.
    An iterator, because the first region takes most jobs.
    """
    found = False
    for region in _all(request, topology, table, age_s, ready, in_flight, rounds, unlisted_spare):
        if request.allowed is None or region in request.allowed:
            found = True
            yield region
    if not found and request.policy is not Policy.STRICT:
        # Home is not allowed and every allowed region is full: wait there, nearest first.
        yield from (r for r in topology.by_round_trip(request.home) if r in (request.allowed or ()))


def _all(
    request: RoutingRequest,
    topology: Topology,
    table: Table | None,
    age_s: float | None,
    ready: Mapping[str, int],
    in_flight: Mapping[str, int],
    rounds: int,
    unlisted_spare: int,
) -> Iterator[str]:
    home = request.home
    if request.policy is Policy.STRICT:
        yield home
        return
    rung = mode(age_s if table is not None else None)
    first = _by_shares(request, table, rung, ready)
    yield from first
    # Without a table the needed reach is unknown; with one, overload or refusals open rings.
    reach = Ring.ANY
    if request.policy is Policy.RING and table is not None and ready.get(home, 1) > 0:
        reach = Ring(min(Ring.ANY, max(table.reach.get(home, 0), Ring.NEAR + rounds)))
    spare = None if table is None or rung is Mode.LOCAL else table.spare
    for region in topology.within(home, reach):
        if region in first or ready.get(region, 1) == 0:
            continue
        room = unlisted_spare if spare is None else spare.get(region, 0)
        if in_flight.get(region, 0) < room:
            yield region


def _by_shares(
    request: RoutingRequest,
    table: Table | None,
    rung: Mode,
    ready: Mapping[str, int],
) -> tuple[str, ...]:
    home = request.home
    if table is None or rung is Mode.LOCAL or 0 < ready.get(home, SMALL_POOL) < SMALL_POOL:
        return (home,)
    row = table.shares.get(home)
    if row is None or (len(row) == 1 and home in row):
        return (home,)
    if request.allowed is not None:
        row = {region: share for region, share in row.items() if region in request.allowed}
    target = drawn(row, request.draw) or home
    # A region may have gone down after the table was made. Its share then overflows, which counts
    # spare workers: sent to the few others of the row, it could swamp them.
    if target == home or ready.get(target, 1) == 0:
        return (home,)
    return (home, target) if rung is Mode.HOME_FIRST else (target, home)
