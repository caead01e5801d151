"""The protocol against a model: two actors whose statements interleave, and crashes.

The verbs call the store as the API, dispatcher, reaper and worker do. An actor pauses before each
statement and before its commit, and the other may run any of its own statements meanwhile. A crash
ends both and undoes any number of the last commits that did not wait for the disk, sequences
included. Workers survive it and continue their attempts. After every step the committed rows, the
stored objects and the answers to clients must agree.
"""

import secrets
from collections import Counter
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text

from app.domain.errors import Transient
from app.store.job import attempts, jobs, reaping, retention, slots
from app.store.job.placing import Placed
from app.store.job.records import BegunJob
from tests.support import make, services
from tests.support.interleave import Actor, Stage

LIMIT = 2  # slots of the limited key
TERMINAL = ("canceled", "expired", "failed", "succeeded")
BUDGET = settings(
    max_examples=30,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    database=None,
    # Shrinking replays real transactions; the steps of a failure are short enough to read.
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)


def object_key(job: BegunJob) -> str:
    """Where the worker that began `job` puts its clip."""
    return f"outputs/{job.id}/{job.fence}-{job.lease_token}.mp4"


def recent(items: list[Any], pick: int) -> Any:
    """One of the last two: only events of the same job collide."""
    return items[-1 - pick % min(2, len(items))]


class Protocol(RuleBasedStateMachine):
    """`stage` and `store` are set by the test."""

    stage: Stage
    store: Any
    crashes = False
    cancels = True

    def __init__(self) -> None:
        super().__init__()
        services.empty(self.store)
        self.stage.failures.clear()
        self.stage.broken = None
        self.owner = make.owner(self.store)
        self.jobs: list[UUID] = []
        self.messages: list[Placed] = []
        self.running: dict[int, BegunJob] = {}  # the attempts of workers
        self.begun = 0
        self.objects: set[str] = set()
        self.placements: dict[tuple[UUID, int], str] = {}
        self.answered: dict[UUID, str] = {}  # answers to clients that are final
        self.problems: list[str] = []
        self.checked = -1
        self.stage.keeps_history = self.crashes
        self.stage.committed(lazy=False)

    def teardown(self) -> None:
        for actor in self.stage.actors:
            actor.crash()

    # What an actor may do. Each method uses the actor's transactions.

    def submit(self, actor: Actor, pick: int) -> None:
        limited = pick % 2 == 0
        with actor.tx() as tx:
            slot = slots.take(tx, self.owner, LIMIT) if limited else None
            job = make.new_job(self.owner, slot=slot, webhook_url="https://example.com/hook")
            jobs.add(tx, job)
        self.jobs.append(job.id)
        self.answered.setdefault(job.id, "accepted")

    def place(self, actor: Actor, pick: int) -> None:
        token = secrets.token_hex(4)
        with actor.tx() as tx:
            placed = make.place(tx, "noop", "us-east", "us-east", [token])
        for one in placed:
            before = self.placements.setdefault((one.job_id, one.fence), one.token)
            if before != one.token and not self.crashes:
                self.problems.append(f"fence {one.fence} of {one.job_id} was handed out twice")
            self.messages.append(one)

    def begin(self, actor: Actor, pick: int) -> None:
        if not self.messages:
            return
        message, lease_token = recent(self.messages, pick), secrets.token_hex(4)
        for _ in range(1 + pick // 2 % 2):  # sometimes twice, as if the first answer was lost
            with actor.tx() as tx:
                row = attempts.begin(
                    tx,
                    message.job_id,
                    message.fence,
                    worker="w",
                    attempt_limit_s=60.0,
                    lease_token=lease_token,
                    region="us-east",
                )
        if row is not None:
            self.begun += 1
            self.running[self.begun] = row

    def _held(self, pick: int) -> tuple[int, BegunJob] | None:
        if not self.running:
            return None
        number = recent(sorted(self.running), pick)
        return number, self.running[number]

    def renew(self, actor: Actor, pick: int) -> None:
        if (held := self._held(pick)) is None:
            return
        number, job = held
        with actor.tx() as tx:
            answer = attempts.renew(tx, job.id, job.fence, step=1, lease_token=job.lease_token)
        if answer is False:
            with actor.tx() as tx:
                attempts.stop(tx, job.id, job.fence, lease_token=job.lease_token)
        if not answer:
            self.running.pop(number, None)

    def finish(self, actor: Actor, pick: int) -> None:
        if (held := self._held(pick)) is None:
            return
        number, job = held
        key = object_key(job)
        self.objects.add(key)
        with actor.tx() as tx:
            done = attempts.finish(tx, job.id, job.fence, key, 1, lease_token=job.lease_token)
        if not done:
            with actor.tx() as tx:
                row = jobs.read(tx, job.id)
            if row is None or row.output_key != key:
                self.objects.discard(key)
        self.running.pop(number, None)

    def fail(self, actor: Actor, pick: int) -> None:
        if (held := self._held(pick)) is None:
            return
        number, job = held
        with actor.tx() as tx:
            attempts.fail(
                tx,
                job.id,
                job.fence,
                Transient("x"),
                delay_s=0.0,
                next_region="us-east",
                lease_token=job.lease_token,
            )
        self.running.pop(number, None)

    def cancel(self, actor: Actor, pick: int) -> None:
        if not self.jobs:
            return
        job_id = recent(self.jobs, pick)
        with actor.tx() as tx:
            row = jobs.cancel(tx, job_id, owner_id=self.owner)
            if row is not None and row.slot is not None and row.state in TERMINAL:
                slots.grant(tx, self.owner, LIMIT)
        if row is None:
            return
        if row.state in TERMINAL:
            self.answered[job_id] = row.state
        elif row.cancel_requested:
            self.answered[job_id] = "will not succeed"
        else:
            self.problems.append(f"a cancel of {job_id} was answered {row.state} and then lost")

    def purge(self, actor: Actor, pick: int) -> None:
        if not self.jobs:
            return
        with actor.tx() as tx:
            row = retention.purge(tx, recent(self.jobs, pick), owner_id=self.owner)
        if row is not None:
            self.objects.discard(row.output_key)

    def lose(self, actor: Actor, pick: int) -> None:
        with actor.tx() as tx:
            tx.execute(text("UPDATE jobs SET lease_until = now() WHERE state = 'processing'"))
        with actor.tx() as tx:
            reaping.reap_lost(tx)

    def take_back(self, actor: Actor, pick: int) -> None:
        if not self.messages:
            return
        placed = recent(self.messages, pick)
        with actor.tx() as tx:
            attempts.take_back(tx, placed.job_id, placed.fence, placed.token, "broker_unavailable")

    def pass_deadline(self, actor: Actor, pick: int) -> None:
        if not self.jobs:
            return
        column = ("deadline", "queue_deadline")[pick % 2]
        with actor.tx() as tx:
            tx.execute(
                text(f"UPDATE jobs SET {column} = now() WHERE id = :id AND finished_at IS NULL"),
                {"id": recent(self.jobs, pick)},
            )
        with actor.tx() as tx:
            reaping.reap_deadlines(tx)

    def grant(self, actor: Actor, pick: int) -> None:
        with actor.tx() as tx:
            slots.grant(tx, self.owner, LIMIT)

    # Mostly verbs that move a job on, and a few that interfere.
    VERBS = (
        *("submit", "place", "begin", "finish", "fail", "cancel", "lose", "place", "begin"),
        *("renew", "purge", "take_back", "pass_deadline", "grant", "finish", "fail", "cancel"),
    )

    def complete(self, who: int, verb: str = "", pick: int = 0) -> None:
        """Let an actor finish and then run `verb`, unless the other actor blocks it."""
        actor = self.stage.actors[who]
        for begin in (False, True):
            if begin and verb and not actor.busy:
                actor.start(lambda actor: getattr(self, verb)(actor, pick))
            for _ in range(12):
                actor.step()

    @rule(depth=st.integers(1, 3), limited=st.booleans())
    def prepare(self, depth: int, limited: bool) -> None:
        """A new job, advanced by `depth` steps: most of the protocol begins there."""
        if len(self.jobs) >= 5:
            return
        self.complete(1)
        self.complete(0, "submit", int(not limited))
        for verb in ("place", "begin")[: depth - 1]:
            self.complete(0, verb)

    # Verbs that can overlap within one transaction.
    overlapping = (
        "fail",
        "cancel",
        "finish",
        "lose",
        "begin",
        "take_back",
        "pass_deadline",
        "place",
    )

    @rule(
        which=st.integers(0, 999),
        after=st.integers(1, 3),
        pick=st.integers(0, 3),
        other=st.integers(0, 3),
    )
    def cross(self, which: int, after: int, pick: int, other: int) -> None:
        """Run all of the second verb between two statements of the first."""
        verbs = [verb for verb in self.overlapping if verb != "cancel" or self.cancels]
        first, second = verbs[which % len(verbs)], verbs[which // 31 % len(verbs)]
        self.complete(1)
        self.complete(0)
        actor = self.stage.actors[0]
        if not actor.busy:
            actor.start(lambda actor: getattr(self, first)(actor, pick))
            for _ in range(after):
                actor.step()
            self.complete(1, second, other)
            self.complete(0)

    @rule(who=st.integers(0, 1), verb=st.sampled_from(VERBS), pick=st.integers(0, 7))
    def act(self, who: int, verb: str, pick: int) -> None:
        actor = self.stage.actors[who]
        if actor.busy:
            actor.step()
        elif verb != "submit" or len(self.jobs) < 3:
            if verb in ("cancel", "purge") and not self.cancels:
                return
            actor.start(lambda actor: getattr(self, verb)(actor, pick))

    @rule(who=st.integers(0, 1))
    def let_it_end(self, who: int) -> None:
        actor = self.stage.actors[who]
        for _ in range(12):
            if actor.busy:
                actor.step()

    @rule(who=st.integers(0, 1))
    def step(self, who: int) -> None:
        if self.stage.actors[who].busy:
            self.stage.actors[who].step()

    @precondition(lambda self: self.crashes and self.stage.losable > 0)
    @rule(lost=st.integers(0, 3))
    def crash(self, lost: int) -> None:
        self.stage.crash(lost)
        self.checked = -1

    @invariant()
    def rows_objects_and_answers_agree(self) -> None:
        if self.stage.broken is not None:
            raise self.stage.broken
        assert not self.problems, self.problems
        if self.checked == self.stage.commits:
            return
        self.checked = self.stage.commits
        rows = {
            row.id: row
            for row in self.stage.query(
                "SELECT id, state, output_key, purged_at, slot, begun, fence, cancel_requested"
                " FROM jobs"
            )
        }
        for job_id, answered in self.answered.items():
            assert job_id in rows, f"{job_id} was accepted and then lost"
            state = rows[job_id].state
            if answered in TERMINAL:
                assert state == answered, f"{job_id} was reported {answered} and is {state}"
            elif answered == "will not succeed":
                assert state != "succeeded", f"{job_id} was canceled and succeeded"
            if state in TERMINAL:
                self.answered[job_id] = state
        for row in rows.values():
            if row.state == "succeeded" and row.purged_at is None:
                assert row.output_key in self.objects, f"the clip of {row.id} is gone"
        self._attempts(rows)
        held = sum(1 for row in rows.values() if row.slot and row.state not in TERMINAL)
        assert held <= LIMIT, f"{held} slots are held"

    def _attempts(self, rows: dict[UUID, Any]) -> None:
        opened = Counter(
            {
                (row.job_id, row.fence): row.n
                for row in self.stage.query(
                    "SELECT job_id, fence, count(*) AS n FROM attempts WHERE ended_at IS NULL"
                    " GROUP BY 1, 2"
                )
            }
        )
        live = {
            (row.id, row.fence) for row in rows.values() if row.state in ("starting", "processing")
        }
        assert set(opened) == live, "exactly the placed jobs have an open attempt"
        owed = {
            row.job_id: row.n
            for row in self.stage.query(
                "SELECT job_id, count(*) AS n FROM webhook_deliveries GROUP BY 1"
            )
        }
        # A tombstone takes the delivery to the address that its job named with it.
        ended = {
            row.id: 1 for row in rows.values() if row.state in TERMINAL and row.purged_at is None
        }
        assert owed == ended, "every ended job owes one webhook, and no other job does"


@pytest.fixture
def stage(store, session_settings):
    stage = Stage(session_settings.sqlalchemy_url)
    yield stage
    stage.close()


def check(stage, store, **flags):
    machine = type("Machine", (Protocol,), {"stage": stage, "store": store, **flags})
    run_state_machine_as_test(machine, settings=BUDGET)


def test_nothing_is_lost_or_done_twice(stage, store):
    check(stage, store, cancels=False)


def test_every_answer_to_a_cancel_holds(stage, store):
    check(stage, store, overlapping=("cancel", "fail", "cancel", "lose", "take_back", "begin"))


def test_a_crash_undoes_commits_but_no_answer_and_no_clip(stage, store):
    """Fences are handed out again after a crash; lease tokens tell the attempts apart."""
    check(stage, store, crashes=True)
