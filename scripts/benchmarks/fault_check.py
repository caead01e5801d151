"""Reads Postgres, the bucket and the receiver's log after a storm and finds violations."""

import os
import time
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from psycopg.rows import dict_row

from app.broker import keys
from app.domain.routing.topology import Pool
from app.objects import Objects, objects_for
from app.store.session import Store
from scripts.benchmarks.fault_clients import TERMINAL, Api, Ledger
from scripts.benchmarks.fault_testbed import PROFILE, REGIONS, WORKERS, Testbed
from scripts.benchmarks.harness.webhook_log import Received
from workers.cpu import housekeeping

Row = dict[str, Any]
SETTLE_S = 150.0  # two leases in a row, backoffs between attempts, a paused worker
WEBHOOKS_S = 45.0  # a first try, and the one 5 s after it
PROBE_S = 30.0
OLD_S = 2 * housekeeping.UNREFERENCED_S
LIVE = "state NOT IN ('canceled', 'expired', 'failed', 'succeeded')"
JOBS = """
    SELECT id::text, state, output_key, output_bytes, input_key, begun, purged_at IS NOT NULL AS
        purged, error_code, finished_at,
        (state = 'processing' AND lease_until > now()) OR not_before > now() AS may_wait,
        (SELECT count(*) FROM attempts AS a WHERE a.job_id = jobs.id AND a.outcome = 'succeeded')
            AS successes,
        (SELECT count(*) FROM attempts AS a WHERE a.job_id = jobs.id AND a.ended_at IS NULL)
            AS open_attempts
    FROM jobs
"""
DELIVERIES = """
    SELECT id::text, job_id::text, event, delivered_at IS NOT NULL AS delivered
    FROM webhook_deliveries WHERE job_id IS NOT NULL
"""
# Due for the first time and not sent yet.
UNSENT = """
    SELECT count(*) AS n FROM webhook_deliveries
    WHERE delivered_at IS NULL AND given_up_at IS NULL AND (tries = 0 OR next_at < now())
"""


@dataclass
class Verdict:
    """One sentence for each violation."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    leaked: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # worth knowing, but not wrong

    @property
    def wrong(self) -> list[str]:
        return [
            f"{kind}: {sentence}"
            for kind in ("lost", "doubled", "leaked")
            for sentence in getattr(self, kind)
        ]


def settle(testbed: Testbed, *, limit_s: float = SETTLE_S) -> float:
    """Wait until no job is live and no webhook is due. Returns the seconds without the latter."""
    began = time.monotonic()
    with testbed.connect() as connection:
        _wait_for_none(connection, f"SELECT count(*) FROM jobs WHERE {LIVE}", limit_s)
        took_s = time.monotonic() - began
        _wait_for_none(connection, UNSENT, WEBHOOKS_S)
    return took_s


def check(testbed: Testbed, ledger: Ledger) -> Verdict:
    """Check everything; call after `settle`. Sweeps the bucket as if it were two days old."""
    verdict = Verdict(lost=list(ledger.broken), doubled=list(ledger.doubled))
    with testbed.connect() as connection:
        cursor = connection.cursor(row_factory=dict_row)
        rows = {str(row["id"]): row for row in cursor.execute(JOBS).fetchall()}
        deliveries = cursor.execute(DELIVERIES).fetchall()
    objects = objects_for(testbed.settings)
    _check_observations(rows, ledger, verdict)
    _check_rows(rows, verdict)
    _check_clips(rows, objects, verdict)
    _check_webhooks(rows, deliveries, testbed.webhooks.received(), verdict)
    _check_bucket(testbed, objects, verdict)
    _check_claims(testbed, verdict)
    _probe(testbed, verdict)
    return verdict


def _wait_for_none(connection: Any, count: str, limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while connection.execute(count).fetchone()[0] and time.monotonic() < deadline:
        time.sleep(0.25)


def _check_observations(rows: dict[str, Row], ledger: Ledger, verdict: Verdict) -> None:
    """Compare what the clients saw with the rows."""
    for job_id, seen in ledger.jobs.items():
        row = rows.get(job_id)
        if row is None:
            verdict.lost.append(f"{job_id} was accepted and has no row")
            continue
        state = row["state"]
        if seen.ended and state != seen.ended:
            verdict.lost.append(f"{job_id} was shown as {seen.ended} and is {state}")
        if seen.cancel_accepted and state != "canceled":
            verdict.lost.append(f"{job_id} is {state} although a cancel was accepted")


def _check_rows(rows: dict[str, Row], verdict: Verdict) -> None:
    states: dict[str, int] = defaultdict(int)
    for job_id, row in rows.items():
        states[row["state"]] += 1
        if row["state"] not in TERMINAL:
            if row["may_wait"]:
                verdict.notes.append(f"{job_id} is {row['state']} and has a reason to be")
            else:
                verdict.lost.append(f"{job_id} is {row['state']} after everything had settled")
            continue
        if row["open_attempts"]:
            verdict.leaked.append(f"{job_id} is {row['state']} and has an open attempt")
        if row["state"] == "succeeded" and row["successes"] != 1:
            verdict.doubled.append(f"{job_id} has {row['successes']} succeeded attempts")
        if row["state"] != "succeeded" and row["successes"]:
            verdict.lost.append(f"{job_id} is {row['state']} after an attempt succeeded")
        if row["state"] == "failed":
            verdict.notes.append(f"{job_id} failed: {row['error_code']}")
    verdict.notes.append(", ".join(f"{n} {state}" for state, n in sorted(states.items())))


def _check_clips(rows: dict[str, Row], objects: Objects, verdict: Verdict) -> None:
    named: dict[str, str] = {}
    for job_id, row in rows.items():
        key = row["output_key"]
        if key is None:
            continue
        if key in named:
            verdict.doubled.append(f"{job_id} and {named[key]} name one object")
        named[key] = job_id
        if row["purged"]:
            continue
        if objects.head(key) is None:
            verdict.lost.append(f"{job_id} succeeded and its clip {key} is gone")
            continue
        clip = objects.get(key)
        if len(clip) != row["output_bytes"] or not is_one_mp4(clip):
            verdict.lost.append(f"{job_id} succeeded and {key} is not its clip")


def is_one_mp4(data: bytes) -> bool:
    """Whether the boxes fill the file, with exactly one of each that a clip has once."""
    found = []
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size < 8:
            return False
        found.append(data[at + 4 : at + 8])
        at += size
    return at == len(data) and all(found.count(box) == 1 for box in (b"ftyp", b"moov", b"mdat"))


def _check_webhooks(
    rows: dict[str, Row], deliveries: list[Row], received: list[Received], verdict: Verdict
) -> None:
    """One event for each end, one id for each event, and no event that contradicts a row."""
    owed: dict[str, list[Row]] = defaultdict(list)
    for delivery in deliveries:
        owed[delivery["job_id"]].append(delivery)
    got: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for message in received:
        got[message.job_id].add((message.message_id, message.event))
        if message.event != f"job.{message.state}":
            verdict.lost.append(f"{message.job_id}: {message.event} says {message.state}")
    for job_id, row in rows.items():
        if row["state"] not in TERMINAL:
            continue
        mine = owed[job_id]
        if row["purged"]:  # a deletion takes its delivery along, sent or not (decision 61)
            if any(event != f"job.{row['state']}" for _, event in got[job_id]):
                verdict.lost.append(f"{job_id} is {row['state']}, announced as {got[job_id]}")
            continue
        if not mine:
            verdict.lost.append(f"{job_id} ended and owes no webhook")
        if len(mine) > 1:
            verdict.doubled.append(f"{job_id} owes {len(mine)} webhooks")
        expected = {(each["id"], f"job.{row['state']}") for each in mine}
        if len(got[job_id]) > 1:
            verdict.doubled.append(f"{job_id} was announced as {sorted(got[job_id])}")
        elif got[job_id] - expected:
            verdict.lost.append(f"{job_id} is {row['state']}, announced as {sorted(got[job_id])}")
        if any(each["delivered"] for each in mine) and not got[job_id]:
            verdict.lost.append(f"{job_id}: a webhook counts as delivered and never came")
    for job_id in got.keys() - rows.keys():
        verdict.lost.append(f"{job_id} was announced and has no row")


def _check_bucket(testbed: Testbed, objects: Objects, verdict: Verdict) -> None:
    """Sweep what no row names; then every named object must exist, and no other."""
    _age(testbed.storage.directory)
    orphans = {info.key for info in objects.list()} - _named(testbed)
    verdict.notes.append(f"{len(orphans)} objects without a row before the sweep")
    with closing(Store(testbed.settings.sqlalchemy_url, pool_size=1)) as store:
        housekeeping.sweep(store, objects, datetime.now(UTC))
    # Read again: the sweep also removes jobs that were deleted while they rendered.
    named, kept = _named(testbed), {info.key for info in objects.list()}
    verdict.leaked += [f"{key} has no row and was not swept" for key in sorted(kept - named)]
    verdict.lost += [f"{key} is named and gone" for key in sorted(named - kept)]


def _named(testbed: Testbed) -> set[str]:
    """The keys of all objects that rows name."""
    with testbed.connect() as connection:
        rows = connection.execute(
            "SELECT key FROM jobs, unnest(ARRAY[input_key, output_key]) AS key"
            " WHERE purged_at IS NULL AND key IS NOT NULL"
        ).fetchall()
    return {str(key) for (key,) in rows}


def _age(folder: Path) -> None:
    old = time.time() - OLD_S
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (old, old))


def _check_claims(testbed: Testbed, verdict: Verdict) -> None:
    """No claim outlives the jobs; workers that are not ready again are noted."""
    ready = 0
    for region in REGIONS:
        with testbed.redis(testbed.stack.valkey_of(region)) as client:
            pool = Pool(region, PROFILE)
            seconds, micros = client.time()
            now_ms = int(seconds) * 1000 + int(micros) // 1000
            if held := client.zcount(keys.claims(pool), now_ms, "+inf"):
                verdict.leaked.append(f"{held} claims in {region} and no job")
            ready += int(client.zcount(keys.ready(pool), now_ms, "+inf"))
    verdict.notes.append(f"{ready} of {len(WORKERS)} workers are ready")


def _probe(testbed: Testbed, verdict: Verdict) -> None:
    """The service still works: one more job in each region, of a key with one slot."""
    api = Api(testbed.stack.url, testbed.key("probe", max_concurrency=1))
    for region in REGIONS:
        status, job_id = api.submit(region=region, webhook_url=testbed.webhooks.url)
        deadline = time.monotonic() + PROBE_S
        state = f"refused with {status}"
        while job_id and time.monotonic() < deadline:
            state = str(api.call("GET", f"/v1/jobs/{job_id}")[1].get("state"))
            if state in TERMINAL:
                break
            time.sleep(0.1)
        if state != "succeeded":
            verdict.lost.append(f"after the storm a job of {region} is {state}")
