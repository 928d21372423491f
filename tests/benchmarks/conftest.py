"""A small benchmark, and a run of all of it, made once."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_benchmark import PROTOCOL, House, report_of

from ivmix import TextToVideo
from ivmix.benchmarks.description import describe
from ivmix.benchmarks.run import Task
from ivmix.benchmarks.setup import Given, make_task
from ivmix.evaluation.arms import read_arms


@pytest.fixture(scope="package")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """On one thread, so that processes may be forked."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield House.build(tmp_path_factory.mktemp("house"))
    torch.set_num_threads(threads)


@pytest.fixture(scope="package")
def pair(house: House) -> TextToVideo:
    return TextToVideo.from_pair(str(house.folder / "pair"), device="cpu")


@pytest.fixture(scope="package")
def given(house: House) -> Given:
    return Given(
        real=(str(house.folder / "real"),), extractors={PROTOCOL: str(house.folder / "i3d_torchscript.pt")},
        batch_size=2,
    )  # fmt: skip


MakeTask = Callable[..., Task]


@pytest.fixture(scope="package")
def task_of(house: House, pair: TextToVideo, given: Given) -> MakeTask:
    """A task of a folder, with what is given and is not as usual."""

    def make(folder: Path, benchmark: str = "small.json", **changes: Any) -> Task:
        description = describe(house.folder / benchmark)
        now = replace(given, **changes)
        arms = () if now.videos else read_arms(house.folder / "arms.json")
        return make_task(description, now, folder, None if now.videos else pair, arms, torch.device("cpu"))

    return make


@pytest.fixture(scope="package")
def whole(task_of: MakeTask, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    report_of(task_of(folder))
    return folder


@pytest.fixture
def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
