"""Extractors: features of a clip by itself, with all they depend on said; other weights and clips refused."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from local_hub import LocalHub
from torch import Tensor, nn

from ivmix.evaluation.benchmark import Benchmark
from ivmix.evaluation.extractors import Extractor, UMTScore, extraction_of, load_extractor
from ivmix.models import (
    I3D,
    UMT,
    I3DConfig,
    UMTConfig,
    VideoMAE,
    ViTConfig,
    load_wordpiece,
    save_folder,
)
from ivmix.models.measuring.bert import BertConfig


class StandIn(nn.Module):
    """Called as stylegan-v's file is: bytes, to be rescaled inside, or pixels in [-1, 1]."""

    def forward(self, x: Tensor, rescale: bool, resize: bool, return_features: bool) -> Tensor:
        if rescale:
            x = x.float() / 127.5 - 1
        return torch.cat([x.float().mean((2, 3, 4)), torch.full((len(x), 1), float(resize + 2 * return_features))], 1)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    torch.jit.script(StandIn()).save(str(tmp_path / "i3d_torchscript.pt"))
    return tmp_path / "i3d_torchscript.pt"


@pytest.fixture(scope="module")
def i3d(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("i3d") / "i3d_pretrained_400.pt"
    torch.manual_seed(0)
    torch.save(I3D(I3DConfig(1e-3)).state_dict(), path)
    return path


@pytest.fixture
def clips() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 16, 64, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["stylegan-v", "cmvq-styleganv"])
def test_the_torchscript_file_is_run_as_each_protocol_runs_it(name: str, script: Path, clips: np.ndarray) -> None:
    extractor = load_extractor(name, script)
    features = extractor(clips)
    inside = float(name == "stylegan-v")
    assert features.dtype == torch.float32
    assert features[:, 3].tolist() == [inside + 2] * 2  # raw features asked for, the resize where the protocol has it
    colours = torch.from_numpy(clips).float().mean((1, 2, 3)) / 127.5 - 1
    torch.testing.assert_close(features[:, :3], colours, atol=2e-3, rtol=0)
    assert extractor.settings["files"] == {"i3d_torchscript.pt": hashlib.sha256(script.read_bytes()).hexdigest()}
    assert extractor.settings["inside"] is (name == "stylegan-v")


def test_a_clip_has_its_features_whatever_it_is_beside(i3d: Path, clips: np.ndarray) -> None:
    extractor = load_extractor("cd-fvd-i3d", i3d)
    both = extractor(clips[:, :9])
    assert both.shape == (2, 400)
    assert torch.equal(both[1:], extractor(clips[1:, :9]))
    reference = torch.randn(8, 400)
    benchmark = Benchmark("some", ["a", "b"], extractor, extractor.name, reference, "some", settings=extractor.settings)
    assert benchmark.echo["benchmark"]["preprocessing"]["resize"]["shape"] == "square"
    assert json.loads(json.dumps(benchmark.echo)) == benchmark.echo  # so that a part on disk is found again


@pytest.mark.parametrize(("given", "taken"), [(None, 1e-5), (1e-3, 1e-3)])
def test_the_eps_is_the_protocol_s_or_the_one_given_and_said(given: float | None, taken: float, i3d: Path) -> None:
    extractor = load_extractor("cmvq-videogpt", i3d, bn_eps=given)
    assert extractor.settings["bn_eps"] == taken
    assert isinstance(extractor.network, I3D)
    assert extractor.network.config.bn_eps == taken


def test_weights_come_from_the_hub_by_name(script: Path, local_hub: LocalHub, clips: np.ndarray) -> None:
    folder = script.parent / "files"
    folder.mkdir()
    (folder / script.name).write_bytes(script.read_bytes())
    local_hub.publish("owner/name", folder)
    extractor = load_extractor("stylegan-v", f"hub:owner/name/{script.name}")
    assert torch.equal(extractor(clips), load_extractor("stylegan-v", script)(clips))
    assert list(extractor.settings["files"]) == [script.name]


def test_one_of_your_own_is_a_value(clips: np.ndarray) -> None:
    def network(x: Tensor) -> Tensor:
        return x.mean((2, 3, 4))

    own = Extractor("mine", extraction_of("cd-fvd-i3d"), network, {}, torch.device("cpu"))
    assert own(clips).shape == (2, 3)


@pytest.fixture
def umt(tmp_path: Path) -> Path:
    """A small one, in a folder with its config."""
    vision = ViTConfig(width=16, depth=1, heads=2, inner=16, patch=32, tubelet=1, frames=12, size=224)
    config = UMTConfig(vision, BertConfig(8, 16, 16, 2, 2, 32, 1, 16), features=6)
    torch.manual_seed(0)
    save_folder(UMT(config), tmp_path / "umt")
    return tmp_path / "umt"


def test_videomae_and_umt_give_features_of_sixteen_and_of_twelve_frames(
    umt: Path, clips: np.ndarray, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    save_folder(VideoMAE(ViTConfig(width=16, depth=1, heads=2, inner=16, patch=32)), tmp_path / "vit")
    assert load_extractor("cd-fvd-videomae", tmp_path / "vit")(clips).shape == (2, 16)
    extractor = load_extractor("chronomagic-umt", umt)
    features = extractor(clips)
    assert features.shape == (2, 6)
    assert torch.equal(extractor(clips[:, [0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14]]), features)
    assert sorted(extractor.settings["files"]) == ["config.json", "diffusion_pytorch_model.safetensors"]


def test_a_clip_s_score_is_of_its_own_caption_alone(umt: Path, clips: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nred\nball\nsun\n")
    texts = load_wordpiece(tmp_path / "vocab.txt")
    measure = UMTScore(load_extractor("chronomagic-umt", umt), texts)
    both = measure(clips, ["a red ball", "a sun"], 8.0)["umt_score"]
    assert (both.shape, both.dtype) == ((2,), np.float64)
    assert measure(clips[1:], ["A sun!"], 8.0)["umt_score"] == both[1:]
    assert measure(clips[1:], ["a red ball"], 8.0)["umt_score"] != both[1:]
    refused("^2 clips and 1 captions: expected as many$", lambda: measure(clips, ["a sun"], 8.0))
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n" + "a\n" * 5)
    refused("has 9 lines, the text encoder knows 8", lambda: UMTScore(
        load_extractor("chronomagic-umt", umt), load_wordpiece(tmp_path / "vocab.txt")
    ))  # fmt: skip


def refused(said: str, call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=said):
        call()


def test_what_does_not_go_together_is_refused_in_one_line(script: Path, i3d: Path, clips: np.ndarray) -> None:
    refused(r"^protocol 'fvd': expected one of stylegan-v, cmvq-styleganv", lambda: load_extractor("fvd", i3d))
    refused(r"^bn_eps=0.001, but stylegan-v has no", lambda: load_extractor("stylegan-v", script, bn_eps=1e-3))
    refused("i3d_pretrained_400.pt is no TorchScript file: ", lambda: load_extractor("stylegan-v", i3d))
    refused(r"i3d_torchscript.pt is not a readable torch file|wants", lambda: load_extractor("cd-fvd-i3d", script))
    extractor = load_extractor("stylegan-v", script)
    refused(r"^clip 0 for stylegan-v: the clip has 8 frames: expected 16 or more$", lambda: extractor(clips[:, :8]))
    refused(r"^clips have shape \(16, 64, 64, 3\): expected \(b, f, h, w, 3\)", lambda: extractor(clips[0]))
    refused(r"^clips have shape \(0, ", lambda: extractor(clips[:0]))
