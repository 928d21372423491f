"""Networks that measure against their peers', through files in the public layouts: cd-fvd's and transformers'."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from measuring_peers import fusion, text, vision
from torch import Tensor, nn

from ivmix.evaluation.extractors import extraction_of
from ivmix.models import UMT, UMTConfig, VideoMAE, ViTConfig, load_i3d, load_umt, load_videomae, load_wordpiece
from ivmix.models.measuring.bert import BertConfig
from ivmix.models.measuring.wordpiece import plain

pytestmark = pytest.mark.slow

Agree = Callable[[Tensor, Tensor], None]
HOW = "pip install --no-deps -c tests/constraints.txt cd-fvd"

VIT = ViTConfig(width=24, depth=3, heads=3, inner=40, patch=14, tubelet=2, frames=16, size=224)
SMALL = UMTConfig(
    ViTConfig(width=24, depth=3, heads=3, inner=40, patch=8, tubelet=1, frames=4, size=32),
    BertConfig(50, 24, 40, 5, 3, 32, fusion_layer=3, encoder_width=24), features=12,
)  # fmt: skip


# --- cd-fvd -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [9, 16])
@pytest.mark.parametrize("bn_eps", [1e-5, 1e-3])
def test_cd_fvd_s_i3d_gives_the_same_logits(
    frames: int, bn_eps: float, agree: Agree, dtype: torch.dtype, tmp_path: Path
) -> None:
    peer = pytest.importorskip("cdfvd.third_party.i3d.pytorch_i3d", reason=HOW)
    torch.manual_seed(0)
    theirs = peer.InceptionI3d(400, in_channels=3).to(dtype).eval().requires_grad_(False)
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eps = bn_eps
            for tensor in (module.weight, module.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (module.bias, module.running_mean):
                tensor.normal_(0, 0.3)
        elif isinstance(module, nn.Conv3d):
            module.weight.normal_(0, (2 / module.weight[0].numel()) ** 0.5)
    torch.save(theirs.state_dict(), tmp_path / "i3d_pretrained_400.pt")
    clips = torch.rand(1, 3, frames, 224, 224, dtype=torch.float64).to(dtype) * 2 - 1
    agree(load_i3d(tmp_path / "i3d_pretrained_400.pt", bn_eps=bn_eps)(clips), theirs(clips))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (90, 160), (448, 300)])
def test_cd_fvd_s_i3d_is_shown_the_same(height: int, width: int, agree: Agree) -> None:
    peer = pytest.importorskip("cdfvd.third_party.i3d.utils", reason=HOW)
    clips = np.random.default_rng(0).integers(0, 256, (1, 9, height, width, 3), dtype=np.uint8)
    agree(extraction_of("cd-fvd-i3d").preprocessing(clips[0]), peer.preprocess_i3d(clips)[0])


@pytest.mark.parametrize("wrapper", ["model", "module"])
def test_cd_fvd_s_videomae_gives_the_same_features(
    wrapper: str, agree: Agree, normal: Callable[..., Tensor], randomised: Callable[..., Any], dtype: torch.dtype,
    tmp_path: Path,
) -> None:  # fmt: skip
    peer = pytest.importorskip("cdfvd.third_party.VideoMAEv2.videomaev2_finetune", reason=HOW)
    theirs = randomised(peer.VisionTransformer(
        img_size=VIT.size, patch_size=VIT.patch, num_classes=7, embed_dim=VIT.width, depth=VIT.depth,
        num_heads=VIT.heads, mlp_ratio=VIT.inner / VIT.width, qkv_bias=True, all_frames=VIT.frames,
        norm_layer=lambda width: nn.LayerNorm(width, eps=1e-6),
    ), dtype=dtype)  # fmt: skip
    torch.save({wrapper: theirs.state_dict()}, tmp_path / "vit.pth")
    clips = normal(2, 3, VIT.frames, VIT.size, VIT.size)
    agree(load_videomae(tmp_path / "vit.pth", config=VIT)(clips), theirs.forward_features(clips))


# --- transformers -----------------------------------------------------------------------------------------------------

@pytest.fixture
def umt(randomised: Callable[..., UMT], dtype: torch.dtype, tmp_path: Path) -> UMT:
    """A small one from a file in the public layout, the whole checkpoint of a trainer around it."""
    ours = randomised(UMT(SMALL), dtype=dtype)
    rest = {"temp": torch.tensor(0.07), "text_encoder.embeddings.position_ids": torch.arange(32)[None]}
    torch.save({"model": ours.state_dict() | rest, "epoch": 6}, tmp_path / "ckpt_best.pth")
    return load_umt(tmp_path / "ckpt_best.pth", config=SMALL)


def test_transformers_videomae_with_tubes_of_one_frame_is_umt_s_vision(
    umt: UMT, transformers: ModuleType, agree: Agree, normal: Callable[..., Tensor], dtype: torch.dtype
) -> None:
    theirs = vision(SMALL.vision, umt.vision_encoder.encoder.state_dict())
    clips = normal(2, 3, 4, 32, 32)
    tokens, times = umt.vision_encoder(clips)
    states = theirs(clips.transpose(1, 2)).last_hidden_state
    agree(tokens, states)
    norm = umt.vision_encoder.pool_norm
    pooled = nn.functional.layer_norm(states.view(2, 4, 16, 24).mean(2), (24,), norm.weight, norm.bias, 1e-6)
    agree(times, pooled)
    agree(umt(clips), (pooled @ umt.vision_proj.weight.T + umt.vision_proj.bias).mean(1))


def test_transformers_videomae_is_videomae_before_its_last_norm(
    transformers: ModuleType, randomised: Callable[..., Any], agree: Agree, normal: Callable[..., Tensor],
    dtype: torch.dtype,
) -> None:  # fmt: skip
    ours = randomised(VideoMAE(VIT), dtype=dtype)
    theirs = vision(VIT, ours.state_dict())
    clips = normal(1, 3, VIT.frames, VIT.size, VIT.size)
    agree(ours.tokens(clips), theirs(clips.transpose(1, 2)).last_hidden_state)


@pytest.fixture
def texts() -> tuple[Tensor, Tensor]:
    """Two, of 9 and of 4 tokens."""
    ids = torch.randint(50, (2, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(9) < torch.tensor([[9], [4]])
    return ids, mask


def test_transformers_bert_reads_texts_as_the_first_half_does(
    umt: UMT, transformers: ModuleType, texts: tuple[Tensor, Tensor], agree: Agree, dtype: torch.dtype
) -> None:
    theirs = text(SMALL.text, umt.text_encoder.state_dict())
    ids, mask = texts
    states = theirs(ids, attention_mask=mask.long()).last_hidden_state
    ours = umt.text_encoder.text(ids, mask)
    agree(ours[0], states[0])
    agree(ours[1, :4], states[1, :4])  # what stands in the places of padding, no one reads
    agree(umt.text_features(ids, mask), states[:, 0] @ umt.text_proj.weight.T + umt.text_proj.bias)


def test_transformers_cross_attention_fuses_as_the_second_half_does(
    umt: UMT, transformers: ModuleType, texts: tuple[Tensor, Tensor], agree: Agree, normal: Callable[..., Tensor],
    dtype: torch.dtype,
) -> None:  # fmt: skip
    theirs = fusion(SMALL.text, umt.text_encoder.state_dict())
    ids, mask = texts
    clips = normal(2, 3, 4, 32, 32)
    tokens, _ = umt.vision_encoder(clips)
    states = umt.text_encoder.text(ids, mask)
    fused = theirs(states, mask, tokens)
    ours = umt.text_encoder.fuse(states, mask, tokens)
    agree(ours[0], fused[0])
    agree(ours[1, :4], fused[1, :4])
    agree(umt.match(clips, ids, mask), (fused[:, 0] @ umt.itm_head.weight.T + umt.itm_head.bias)[:, 1])


def test_transformers_reads_captions_into_the_same_tokens(transformers: ModuleType, tmp_path: Path) -> None:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "time", "lapse", "of", "cloud", "##s", "over", "the",
              "sea", "##side", "caf", "##e", "cafe", "中", "$", "5", "&", "o", "##ver"]  # fmt: skip
    (tmp_path / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    captions = [
        "A time-lapse of CLOUDS, over the seaside!", "Café 中中 $5 & o", "xyz over\tthe  sea\u00ad", "the " * 40, "",
    ]  # fmt: skip
    theirs = transformers.BertTokenizer.from_pretrained(tmp_path)(
        [plain(caption) for caption in captions], padding="max_length", truncation=True, max_length=32,
        return_tensors="pt",
    )  # fmt: skip
    ours = load_wordpiece(tmp_path)(captions)
    assert torch.equal(ours.ids, theirs["input_ids"])
    assert torch.equal(ours.mask, theirs["attention_mask"].bool())
    assert ours.cut == 1
