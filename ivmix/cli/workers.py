"""Several processes on one command, as the command line and torchrun have them."""

import os

from ivmix.cli.options import MODEL


def local_device(name: str | None, recorded: str | None = None) -> str | None:
    """The device of this process: that of the option, or under torchrun its own of those on this machine, of the kind
    of the option's or the `recorded` one."""
    if "LOCAL_RANK" not in os.environ:
        return name
    return own_device(name or (recorded or MODEL["device"]).partition(":")[0], int(os.environ["LOCAL_RANK"]))


def own_device(name: str, rank: int) -> str:
    """The device of one of several processes on this machine: of accelerators, if none is named, each has the next."""
    import torch

    from ivmix.devices import find_device

    device = find_device(name)
    several = device.type != "cpu" and device.index is None
    return f"{device.type}:{rank % torch.accelerator.device_count()}" if several else name


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """"2/4" -> (1, 4): the share's place, from 0, and how many there are."""
    if text is None:
        return None
    place, slash, shares = text.partition("/")
    if not (slash and place.isdigit() and shares.isdigit() and 1 <= int(place) <= int(shares)):
        raise ValueError(f"--shard {text}: expected I/N with 1 <= I <= N, such as 1/4")
    return int(place) - 1, int(shares)
