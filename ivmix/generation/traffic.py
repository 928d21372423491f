"""What offloaded weights cost: the bytes that go to the device for a batch, counted from the plan before it is drawn.

A zigzag changes its network at nearly every leg, a composite twice at every evaluation, one network alone hardly ever.
Where both models share weights, as AnimateDiff's do, only the text encoder and the autoencoder come and go.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import groupby

from torch import nn

from ivmix.generation.job import Job
from ivmix.generation.preview import Preview, stored_map
from ivmix.pairs.bridge import plan, source_of_atoms
from ivmix.pairs.offload import size_of, tensors_of
from ivmix.pairs.side import Side
from ivmix.solvers import Guided, planned_nfe

LINK = 15.75e9  # bytes a second that PCIe 3.0 x16 carries at most: 16 lanes of 8 GT/s, 128 of 130 bits


def moved(networks: Iterable[nn.Module]) -> int:
    """Bytes that go to a device where these networks are at work in turn, each alone there but for what it shares with
    the one before."""

    @cache
    def missing(before: nn.Module | None, network: nn.Module) -> int:
        there = set() if before is None else set(tensors_of(before))
        return size_of(tensor for tensor in tensors_of(network) if tensor not in there)

    total, at_work = 0, None
    for network in networks:
        if network is not at_work:
            total += missing(at_work, network)
            at_work = network
    return total


def turns(job: Job) -> Iterator[nn.Module]:
    """The networks of a batch in the order of their work. Of a step that asks several, in the order of its field; of an
    adaptive one, as if its first attempt did. A preview that no map colours asks the autoencoder after every step."""
    pair, lead = job.pair, job.pair.sides[job.lead]
    vae = [pair.vae] if pair.bridge is None else []  # else it stays
    shown = vae if isinstance(job.callback, Preview) and stored_map(pair) is None else []
    for side in pair.sides:
        if side.name in job.sampling.models:
            yield from _reading(side)
    if job.video is not None:
        yield from vae
    if job.inversion:
        yield from _reading(lead)
    for _ in job.inversion:
        yield from (lead.unet, *shown)
    unread = [source_of_atoms(pair, job.sampling, side.network(own))
              for side, own in zip(pair.sides, job.schedules, strict=True)]  # fmt: skip
    image, video = (Guided(network("negative"), network("prompt")) for network in unread)  # two conditions, whichever
    fields, _ = plan(job.sampling, image, video, job.sigmas)
    networks = {side.name: side.unet for side in pair.sides}
    for _, step in groupby(job.legs, key=lambda leg: leg.step):
        for leg in step:
            asked = planned_nfe([leg], fields)
            for _ in range(max(asked.values(), default=0)):
                yield from (networks[name.split()[0]] for name in asked)  # "video perturbed" has the same weights
        yield from shown
    yield from vae


def _reading(side: Side) -> Iterator[nn.Module]:
    """A prompt and a negative one are read, then both told to the side's network."""
    for _ in range(2):
        yield from (reader.network for reader in side.readers if reader.stays)
    yield side.unet
