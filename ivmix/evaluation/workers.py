"""Several processes on one run: torchrun's, or shares that are told apart by hand."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch.distributed as dist


@contextmanager
def ranks() -> Iterator[tuple[int, int]]:
    """This process's rank and the world's size under torchrun, whose processes meet at the end; else (0, 1)."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield 0, 1
        return
    dist.init_process_group("gloo", timeout=timedelta(days=7))  # one may wait long for another's last batch
    try:
        yield dist.get_rank(), dist.get_world_size()
        meet()
    finally:
        dist.destroy_process_group()


def meet() -> None:
    """Waits until every rank has come here; where there is one process, nothing."""
    if not dist.is_initialized():
        return
    done = dist.barrier(async_op=True)
    while not done.is_completed():  # in Python, where a signal is heard
        time.sleep(0.05)
    done.wait()


def agreed(value: int) -> int:
    """The first rank's."""
    if not dist.is_initialized():
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def turn(share: tuple[int, int] | None, rank: int, world: int) -> tuple[int, int]:
    """Which of how many workers this process is, of those of a share (its place from 0, how many there are)."""
    place, shares = share or (0, 1)
    return place * world + rank, shares * world
