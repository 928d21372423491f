"""Video transformers and UMT: positions, files, what texts and clips of other shapes meet."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from local_hub import LocalHub
from torch import Tensor

from ivmix.models import (
    UMT,
    UMTConfig,
    VideoMAE,
    ViTConfig,
    inspect,
    load_folder,
    load_umt,
    load_videomae,
    load_wordpiece,
    save_folder,
)
from ivmix.models.measuring.bert import BertConfig
from ivmix.models.measuring.vit import Attention, positions

VIT = ViTConfig(width=24, depth=2, heads=3, inner=40, patch=8, tubelet=2, frames=4, size=32)
SMALL = UMTConfig(replace(VIT, tubelet=1), BertConfig(50, 24, 40, 4, 3, 32, 2, 24), features=12)


@pytest.fixture
def umt(randomised: Callable[..., UMT]) -> UMT:
    return randomised(UMT(SMALL))


@pytest.fixture
def texts() -> tuple[Tensor, Tensor]:
    return torch.tensor([[2, 7, 9, 3, 0, 0]]), torch.tensor([[True] * 4 + [False] * 2])


def test_positions_are_sines_and_cosines_rounded_once() -> None:
    table = positions(300, 10)
    assert table.dtype == torch.float32
    for place in (0, 1, 299):
        for channel in range(10):
            angle = place / 10000 ** (2 * (channel // 2) / 10)
            assert float(table[place, channel]) == pytest.approx([math.sin, math.cos][channel % 2](angle), abs=6e-8)


def test_tokens_go_time_by_time(randomised: Callable[..., Any], normal: Callable[..., Tensor]) -> None:
    """Another last frame changes the tokens of the last time alone, before any layer mixes them."""
    network = randomised(VideoMAE(VIT))
    clips = normal(1, 3, 4, 32, 32)
    others = torch.cat([clips[:, :, :3], clips[:, :, 3:] + 1], dim=2)
    changed = (network.patch_embed(clips) != network.patch_embed(others)).any(-1)[0]
    assert changed.tolist() == [False] * 16 + [True] * 16


def test_queries_and_values_have_a_bias_and_keys_none(
    randomised: Callable[..., Any], normal: Callable[..., Tensor]
) -> None:
    layer = randomised(Attention(24, 3))
    x = normal(2, 5, 24)
    q, k, v = (x @ part.T for part in layer.qkv.weight.chunk(3))
    heads = []
    for i in range(3):
        own = slice(8 * i, 8 * i + 8)
        scores = (q + layer.q_bias)[..., own] @ k[..., own].transpose(1, 2) / 8**0.5
        heads.append(scores.softmax(-1) @ (v + layer.v_bias)[..., own])
    torch.testing.assert_close(layer(x), layer.proj(torch.cat(heads, -1)))


def test_features_are_the_normed_mean_of_tokens(randomised: Callable[..., Any], normal: Callable[..., Tensor]) -> None:
    network = randomised(VideoMAE(VIT))
    clips = normal(2, 3, 4, 32, 32)
    mean = network.tokens(clips).mean(1)
    normed = (mean - mean.mean(-1, keepdim=True)) / (mean.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(network(clips), normed * network.fc_norm.weight + network.fc_norm.bias)


@pytest.mark.parametrize("shape", [(1, 3, 5, 32, 32), (1, 3, 4, 32, 40), (1, 4, 3, 32, 32), (3, 4, 32, 32)])
def test_clips_whose_positions_are_not_known_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^clips have shape \(.*\): expected \(b, 3, 4, 32, 32\)$"):
        VideoMAE(VIT)(torch.zeros(shape))


@pytest.mark.parametrize("wrapper", ["model", "module"])
def test_a_trainer_s_file_is_read_without_its_head_of_classes(
    wrapper: str, randomised: Callable[..., Any], normal: Callable[..., Tensor], tmp_path: Path
) -> None:
    network = randomised(VideoMAE(VIT))
    head = {"head.weight": torch.zeros(7, 24), "head.bias": torch.zeros(7)}
    torch.save({wrapper: network.state_dict() | head}, tmp_path / "vit.pth")
    clips = normal(1, 3, 4, 32, 32)
    assert torch.equal(load_videomae(tmp_path / "vit.pth", config=VIT)(clips), network(clips))
    with pytest.raises(ValueError, match=r"a transformer of 24 channels is neither .*: give config=, a ViTConfig"):
        load_videomae(tmp_path / "vit.pth")
    part = inspect(tmp_path / "vit.pth").parts[0]
    assert (part.name, part.layout) == ("videomae", "VideoMAE-v2")


def test_umt_s_file_is_read_without_what_training_alone_needs(
    umt: UMT, normal: Callable[..., Tensor], tmp_path: Path
) -> None:
    rest = {"temp": torch.tensor(0.07), "text_encoder.embeddings.position_ids": torch.arange(32)[None]}
    torch.save({"model": umt.state_dict() | rest, "epoch": 6}, tmp_path / "ckpt_best.pth")
    clips = normal(1, 3, 4, 32, 32)
    assert torch.equal(load_umt(tmp_path / "ckpt_best.pth", config=SMALL)(clips), umt(clips))
    lacking = {key: value for key, value in umt.state_dict().items() if "layer.3.crossattention.self.key" not in key}
    torch.save({"model": lacking}, tmp_path / "lacking.pth")
    with pytest.raises(ValueError, match=r"missing text_encoder.encoder.layer.3.crossattention.self.key.bias"):
        load_umt(tmp_path / "lacking.pth", config=SMALL)


def test_folders_of_ours_open_again(umt: UMT, randomised: Callable[..., Any], tmp_path: Path) -> None:
    save_folder(umt, tmp_path / "umt")
    save_folder(randomised(VideoMAE(VIT)), tmp_path / "vit")
    assert load_folder(UMT, UMTConfig, tmp_path / "umt").config == load_umt(tmp_path / "umt").config == SMALL
    assert load_videomae(tmp_path / "vit").config == VIT
    for name, config in (("umt", SMALL), ("vit", VIT)):
        (part,) = inspect(tmp_path / name).parts
        assert (part.problems, part.config) == ((), config)


def test_features_of_a_clip_are_the_mean_of_its_times(umt: UMT, normal: Callable[..., Tensor]) -> None:
    clips = normal(2, 3, 4, 32, 32)
    tokens, times = umt.vision_encoder(clips)
    assert (tokens.shape, times.shape) == ((2, 64, 24), (2, 4, 24))
    torch.testing.assert_close(umt(clips), umt.vision_proj(times.mean(1)))


def test_padding_changes_nothing_and_the_clip_does(
    umt: UMT, texts: tuple[Tensor, Tensor], normal: Callable[..., Tensor]
) -> None:
    ids, mask = texts
    clips = normal(1, 3, 4, 32, 32)
    score = umt.match(clips, ids, mask)
    torch.testing.assert_close(umt.match(clips, ids[:, :4], mask[:, :4]), score)
    torch.testing.assert_close(umt.text_features(ids[:, :4], mask[:, :4]), umt.text_features(ids, mask))
    assert (umt.match(-clips, ids, mask) - score).abs() > 1e-3
    assert (umt.match(clips, ids.flip(1), mask.flip(1)) - score).abs() > 1e-3


@pytest.mark.parametrize(("ids", "mask"), [((1, 33), (1, 33)), ((1, 6), (1, 5)), ((6,), (6,))])
def test_texts_that_no_positions_are_known_for_are_refused(
    ids: tuple[int, ...], mask: tuple[int, ...], umt: UMT
) -> None:
    with pytest.raises(ValueError, match=r"expected \(b, l\), l at most 32"):
        umt.text_encoder.text(torch.zeros(ids, dtype=torch.int64), torch.ones(mask, dtype=torch.bool))


@pytest.mark.parametrize(("wrong", "said"), [
    (lambda: replace(VIT, heads=5), "width=24 is not a multiple of heads=5"),
    (lambda: replace(VIT, frames=5), "frames=5 is not a multiple of tubelet=2"),
    (lambda: replace(SMALL.text, fusion_layer=4), "fusion_layer=4: expected one of 4 layers"),
    (lambda: replace(SMALL, text=replace(SMALL.text, encoder_width=32)), r"encoder_width=32: expected .* 24"),
])  # fmt: skip
def test_sizes_that_do_not_fit_are_refused(wrong: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        wrong()


def test_a_vocabulary_comes_from_a_file_a_folder_or_the_hub(local_hub: LocalHub, tmp_path: Path) -> None:
    folder = tmp_path / "bert"
    folder.mkdir()
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n")
    local_hub.publish("owner/bert", folder)
    for source in (folder, folder / "vocab.txt", "hub:owner/bert/vocab.txt"):
        assert load_wordpiece(source).size == 5
    with pytest.raises(ValueError, match="the vocabulary has 5 lines, the text encoder knows 4 tokens"):
        load_wordpiece(folder).check_fits(4)
