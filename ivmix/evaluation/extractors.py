"""Features of clips by public networks: what a distance is of, with the protocol and the files that they depend on."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ivmix.evaluation.protocols import PROTOCOLS, Extraction
from ivmix.models import UMT, WordPiece, load_i3d, load_umt, load_videomae
from ivmix.models.checkpoints.folders import Local
from ivmix.models.checkpoints.sources import Source, locate, sha256


@dataclass(frozen=True, eq=False)
class Extractor:
    """Clips (b f h w c) uint8 -> features (b, d) float32 on the CPU: the `features` of a `Benchmark`.

    Clips go through the network one at a time, so that a clip has the same features whatever it is beside. One of your
    own is a value of this class, or any callable of that kind.
    """

    name: str  # of the protocol
    extraction: Extraction
    network: Callable[[Tensor], Tensor]  # (1 c f h w) as `extraction.preprocessing` gives them -> (1, d)
    files: Mapping[str, str]  # SHA-256 of each file of weights, by name
    device: torch.device

    @property
    def settings(self) -> dict[str, Any]:
        """All that features depend on, for `Benchmark.settings` and results; as it comes back from JSON."""
        raw = {"protocol": self.name, **asdict(self.extraction), "files": dict(self.files), "dtype": "float32"}
        return json.loads(json.dumps(raw))

    def shown(self, clip: np.ndarray) -> Tensor:
        """What the network sees of a clip (f h w c): (1 c f h w) on its device."""
        return self.extraction.preprocessing(clip)[None].to(self.device)

    @torch.no_grad()
    def __call__(self, clips: np.ndarray) -> Tensor:
        if clips.ndim != 5 or not len(clips):
            raise ValueError(f"clips have shape {clips.shape}: expected (b, f, h, w, 3), at least one")
        rows = []
        for number, clip in enumerate(clips):
            try:
                rows.append(self.network(self.shown(clip)).float().cpu())
            except ValueError as error:
                raise ValueError(f"clip {number} for {self.name}: {error}") from None
        return torch.cat(rows)


def load_extractor(
    name: str, source: Source, *, bn_eps: float | None = None, device: torch.device | str = "cpu"
) -> Extractor:
    """The extractor of a protocol (`PROTOCOLS`), its weights a file, a folder of ours or `hub:owner/name/file`.

    `bn_eps`: 1e-3 or 1e-5, another than the protocol's own code has for its I3D. A TorchScript file is a program, which
    is run: name one that you trust. Raises FileNotFoundError, or ValueError for weights that are not the protocol's.
    """
    extraction, place = extraction_of(name), torch.device(device)
    if bn_eps is not None:
        if extraction.bn_eps is None:
            raise ValueError(f"bn_eps={bn_eps}, but {name} has no I3D whose batch norms could be told: leave it out")
        extraction = replace(extraction, bn_eps=bn_eps)
    part = "" if extraction.network == "torchscript" else extraction.network
    local = locate(source, part)
    return Extractor(name, extraction, LOADERS[extraction.network](extraction, local, place), hashes(local), place)


def extraction_of(name: str) -> Extraction:
    """ValueError for a protocol that is none, or says nothing of how clips become features."""
    found = PROTOCOLS[name].extraction if name in PROTOCOLS else None
    if found is None:
        known = ", ".join(one for one, protocol in PROTOCOLS.items() if protocol.extraction)
        raise ValueError(f"protocol {name!r}: expected one of {known}")
    return found


def hashes(local: Local) -> dict[str, str]:
    return {path.relative_to(local.root).as_posix(): sha256(path) for path in local.files}


def torchscript(extraction: Extraction, local: Local, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The file that stylegan-v and common_metrics_on_video_quality run: raw logits, which they call features."""
    try:
        network = torch.jit.load(str(local.weights), map_location=device).eval()
    except RuntimeError as error:
        raise ValueError(f"{local.weights} is no TorchScript file: {str(error).splitlines()[0]}") from None
    return lambda x: network(x, rescale=extraction.inside, resize=extraction.inside, return_features=True)


def i3d(extraction: Extraction, local: Local, device: torch.device) -> Callable[[Tensor], Tensor]:
    assert extraction.bn_eps is not None
    return load_i3d(local, bn_eps=extraction.bn_eps, device=device, dtype=torch.float32)


def videomae(extraction: Extraction, local: Local, device: torch.device) -> Callable[[Tensor], Tensor]:
    return load_videomae(local, device=device, dtype=torch.float32)


def umt(extraction: Extraction, local: Local, device: torch.device) -> Callable[[Tensor], Tensor]:
    return load_umt(local, device=device, dtype=torch.float32)


LOADERS = {"torchscript": torchscript, "i3d": i3d, "videomae": videomae, "umt": umt}


@dataclass(frozen=True, eq=False)
class UMTScore:
    """Clips (b f h w c) uint8 and their captions -> {"umt_score": (b,)}: the `measure` of a `Benchmark`.

    How well each clip matches its own caption, as ChronoMagic-Bench has it: a logit, of any sign. The captions it reads
    are cut at 32 tokens; `texts(captions).cut` says how many are.
    """

    extractor: Extractor
    texts: WordPiece

    def __post_init__(self) -> None:
        if not isinstance(self.extractor.network, UMT):
            raise ValueError(f"extractor of {self.extractor.name}: expected that of chronomagic-umt")
        self.texts.check_fits(self.extractor.network.config.text.vocab_size)

    @torch.no_grad()
    def __call__(self, clips: np.ndarray, captions: Sequence[str], fps: float) -> dict[str, np.ndarray]:
        if len(clips) != len(captions):
            raise ValueError(f"{len(clips)} clips and {len(captions)} captions: expected as many")
        network, device = self.extractor.network, self.extractor.device
        assert isinstance(network, UMT)
        ids, mask, _ = self.texts(captions)
        rows = [
            network.match(self.extractor.shown(clip), own.to(device), there.to(device))
            for clip, own, there in zip(clips, ids.split(1), mask.split(1), strict=True)
        ]
        return {"umt_score": torch.cat(rows).double().cpu().numpy()}
