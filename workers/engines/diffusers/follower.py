"""A follower: loads the leader's profile on its own GPU, and renders what the leader renders.

Started by leader.py, which writes pickles to its standard input: first its place and the profile,
then orders. It ends when that ends, when the leader is gone, and when a render fails. Its argument,
`gpu=1`, is for readers of `ps`.
"""

import os
import pickle
import signal
import sys
import time
from queue import Queue
from threading import Thread
from typing import Any

import torch
import torch.distributed as dist

from stillmotion.errors import StillmotionError
from workers.engines.diffusers.engine import DiffusersEngine
from workers.engines.diffusers.members import Member, Stopped
from workers.engines.diffusers.table import read_table

EX_LEADER_GONE, EX_FAILED = 0, 1
POLL_S = 0.5


def main() -> None:
    # The leader's terminal sends these to the whole process group; the leader says when to end.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    rank, size, port, leader, profile = pickle.load(sys.stdin.buffer)
    orders: Queue[Any] = Queue()
    Thread(target=_read, args=(orders,), daemon=True).start()
    Thread(target=_watch_leader, args=(leader,), daemon=True).start()
    status = EX_FAILED
    try:
        _follow(rank, size, port, profile, orders)
    except StillmotionError as error:
        print(f"GPU {rank}: {error}", file=sys.stderr)
    except Exception as error:
        print(f"GPU {rank}: {type(error).__name__}: {error}", file=sys.stderr)
    finally:
        sys.stderr.flush()
        os._exit(status)  # a collective that never ends must not keep it


def _follow(rank: int, size: int, port: int, profile: Any, orders: "Queue[Any]") -> None:
    cuda = torch.cuda.is_available()
    table = read_table(profile)
    device = torch.device(f"cuda:{rank}" if cuda else "cpu")
    member = Member(rank, size, device, table.parallel.passes)
    if cuda:
        torch.cuda.set_device(member.device)
    engine = DiffusersEngine.load(profile, table, member.device)
    store = dist.TCPStore("127.0.0.1", port, size, is_master=False)
    store.set(f"ready-{rank}", "1")
    store.wait(["go"])
    member.join(store, profile.attempt_limit_s)
    engine.follow(member)
    while True:
        try:
            engine.render_along(orders.get())
        except Stopped:
            continue


def _read(orders: "Queue[Any]") -> None:
    """Orders, until there can be no more."""
    while True:
        try:
            orders.put(pickle.load(sys.stdin.buffer))
        except (EOFError, OSError, pickle.UnpicklingError):
            os._exit(EX_LEADER_GONE)


def _watch_leader(leader: int) -> None:
    """A process that was forked from the leader may keep its end of the pipe open."""
    while os.getppid() == leader:
        time.sleep(POLL_S)
    os._exit(EX_LEADER_GONE)


if __name__ == "__main__":
    main()
