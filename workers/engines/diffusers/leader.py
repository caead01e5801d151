"""The leader's side of a group: starts the followers, gives them orders, notices who is gone.

A follower that fails ends its process, because one that lives on would keep the others waiting. The
leader then fails the attempt, which is tried again, and starts new followers at once.
"""

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Any

import structlog
import torch
import torch.distributed as dist

from app.domain.errors import RenderFailed
from app.domain.job.profiles import Profile
from workers.engines.diffusers.members import Member

log = structlog.get_logger(__name__)

POLL_S = 0.1
STOP_S = 5.0  # until a follower that was told to end is killed
FOLLOWER = "workers.engines.diffusers.follower"


class Leader:
    """Owns the followers. Used by one thread, but for the watch on them."""

    def __init__(self, profile: Profile, member: Member):
        self.member = member
        self._profile = profile
        self._followers: list[subprocess.Popen[bytes]] = []
        self._store: Any = None
        self._joined = False
        self.failed: str | None = None  # why this group cannot go on

    def start(self) -> None:
        """Start followers. They load while the leader does something else."""
        self.failed, self._joined = None, False
        self._store = dist.TCPStore(
            "127.0.0.1", 0, self.member.size, is_master=True, wait_for_workers=False
        )
        for rank in range(1, self.member.size):
            command = [sys.executable, "-m", FOLLOWER, f"gpu={rank}"]
            self._followers.append(subprocess.Popen(command, stdin=subprocess.PIPE))
            where = (rank, self.member.size, self._store.port, os.getpid())
            self._tell(self._followers[-1], (*where, self._profile))
        for rank, follower in enumerate(self._followers, 1):
            Thread(target=self._watch, args=(rank, follower), daemon=True).start()

    def meet(self, beat: Callable[[], None]) -> bool:
        """Wait until all have loaded; beats meanwhile. Whether the group is a new one.

        Raises RenderFailed if a follower ends instead, and what `beat` raises.
        """
        if self._joined and self.failed is None:
            return False
        if self.failed is not None:
            self.restart()
        while not self._store.check([f"ready-{rank}" for rank in range(1, self.member.size)]):
            if self.failed is not None:
                raise RenderFailed(f"No group: {self.failed}.", code="group_failed")
            beat()
            time.sleep(POLL_S)
        self._store.set("go", "1")
        self.member.join(self._store, self._profile.attempt_limit_s)
        self._joined = True
        log.info("model_group_formed", gpus=self.member.size)
        return True

    def order(self, order: Any) -> None:
        """Let the followers render, too. Raises RenderFailed if one is gone."""
        for follower in self._followers:
            self._tell(follower, order)

    def restart(self) -> None:
        """End this group, whatever it does, and start another."""
        self.stop(patience_s=0.0)
        self.start()

    def stop(self, patience_s: float = STOP_S) -> None:
        """End the followers."""
        self.failed = self.failed or "it was stopped"
        for follower in self._followers:
            with suppress(OSError):
                if follower.stdin is not None:
                    follower.stdin.close()  # they end when nobody can give them orders
        deadline = time.monotonic() + patience_s
        for follower in self._followers:
            try:
                follower.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                follower.kill()
                follower.wait()
        self._followers = []
        self.member.leave()
        self._store, self._joined = None, False

    def _tell(self, follower: "subprocess.Popen[bytes]", message: Any) -> None:
        assert follower.stdin is not None, "it was opened as a pipe"
        try:
            pickle.dump(message, follower.stdin)
            follower.stdin.flush()
        except (OSError, ValueError) as error:  # it is gone, or was stopped
            self.failed = self.failed or "a follower is gone"
            raise RenderFailed("A GPU of the group is gone.", code="group_failed") from error

    def _watch(self, rank: int, follower: "subprocess.Popen[bytes]") -> None:
        status = follower.wait()
        if self.failed is None and follower in self._followers:
            self.failed = f"the process of GPU {rank} ended with status {status}"
            log.warning("model_group_broken", gpu=rank, status=status)
            self._end_collectives()

    def _end_collectives(self) -> None:
        """Free the leader from a wait for somebody who is gone. Gloo notices that itself."""
        if torch.cuda.is_available() and dist.is_initialized():
            with suppress(RuntimeError, AttributeError, ValueError):
                dist.distributed_c10d._abort_process_group()
