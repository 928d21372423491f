"""The peers: diffusers and transformers, needed by these tests alone. Without them the tests are skipped."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from tokenizers import pre_tokenizers
from torch import Tensor

# What is asked of every comparison, as max|ours - theirs| / max|theirs|. The same sums in another order differ by a few
# units in the last place per layer: 1e-16 and 1e-7, grown to about 1e-14 and 3e-6 through these networks. Any
# difference of definition (an epsilon, an activation, a norm's axes, the order of two layers) shows at 1e-6 or more.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}

# The spatial half of the small pipelines' networks.
SPATIAL = {
    "block_out_channels": (40, 80), "layers_per_block": 1, "cross_attention_dim": 24, "norm_num_groups": 8,
}  # fmt: skip

Randomised = Callable[..., Any]


@pytest.fixture(scope="session")
def diffusers() -> ModuleType:
    module = pytest.importorskip("diffusers")
    module.utils.logging.set_verbosity_error()
    return module


@pytest.fixture(scope="session")
def transformers() -> ModuleType:
    module = pytest.importorskip("transformers")
    module.utils.logging.set_verbosity_error()
    module.utils.logging.disable_progress_bar()
    return module


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture
def agree() -> Callable[[Tensor, Tensor], None]:
    """`agree(ours, theirs)`: same shape, same dtype, and equal within tolerance (`-rP` shows by how much)."""

    def check(ours: Tensor, theirs: Tensor) -> None:
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        difference = float((ours - theirs).abs().max() / theirs.abs().max())
        print(f"max|ours - theirs| / max|theirs| = {difference:.1e}")
        assert difference <= TOLERANCE[ours.dtype]

    return check


@pytest.fixture
def normal(dtype: torch.dtype) -> Callable[..., Tensor]:
    """`normal(*shape, seed=0)`: unit normals, the same numbers in either dtype."""

    def draw(*shape: int, seed: int = 0) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)

    return draw


@pytest.fixture(scope="session")
def opened() -> Callable[..., Any]:
    """`opened(cls, folder, **dtype)`: a peer's from_pretrained, where every key must find its place."""

    def load(cls: Any, folder: Any, **options: Any) -> Any:
        network, info = cls.from_pretrained(folder, output_loading_info=True, local_files_only=True, **options)
        assert not any(info.values()), info
        return network.eval().requires_grad_(False)

    return load


# --- small pipelines ------------------------------------------------------------------------------------------------


@pytest.fixture
def local(diffusers: ModuleType) -> Iterator[None]:
    """All comes from files the test wrote: no hub can be reached."""
    diffusers.utils.logging.disable_progress_bar()
    with torch.no_grad():
        yield


@pytest.fixture
def write_tokenizer(transformers: ModuleType) -> Callable[[Path, str], Any]:
    """`write_tokenizer(folder, pad)`"""

    def write(folder: Path, pad: str) -> Any:
        """CLIP's vocab.json and merges.txt with a few byte pairs, read by the peer, who saves them in its own way."""
        folder.mkdir()
        letters = sorted(pre_tokenizers.ByteLevel.alphabet())
        merges = [("r", "e"), ("re", "d</w>"), ("c", "i"), ("ci", "r"), ("m", "o"), ("mo", "v"), ("!", "!</w>")]
        words = [*letters, *(f"{x}</w>" for x in letters), *(a + b for a, b in merges)]
        words += ["<|startoftext|>", "<|endoftext|>"]
        (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
        (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
        config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "pad_token": pad}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        return transformers.CLIPTokenizer.from_pretrained(folder)

    return write


@pytest.fixture
def parts(
    diffusers: ModuleType, transformers: ModuleType, randomised: Randomised, dtype: torch.dtype,
    write_tokenizer: Callable[[Path, str], Any], tmp_path: Path,
) -> dict[str, Any]:  # fmt: skip
    """What every pipeline has beside its UNet and its scheduler."""
    tokenizer = write_tokenizer(tmp_path / "tokenizer", "<|endoftext|>")
    text = transformers.CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=24, intermediate_size=48, num_hidden_layers=2, num_attention_heads=3,
        max_position_embeddings=77, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(16, 24), layers_per_block=1, latent_channels=4, norm_num_groups=8,
    )  # fmt: skip
    return {
        "tokenizer": tokenizer,
        "text_encoder": randomised(transformers.CLIPTextModel(text), 1, dtype),
        "vae": randomised(vae, 2, dtype),
    }


@pytest.fixture
def image_unet(diffusers: ModuleType, randomised: Randomised, dtype: torch.dtype) -> Any:
    network = diffusers.UNet2DConditionModel(
        **SPATIAL, attention_head_dim=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    return randomised(network, 3, dtype)


@pytest.fixture
def motion_adapter(diffusers: ModuleType, randomised: Randomised, dtype: torch.dtype) -> Any:
    adapter = diffusers.MotionAdapter(
        block_out_channels=SPATIAL["block_out_channels"], motion_layers_per_block=1, motion_num_attention_heads=4,
        motion_norm_num_groups=8, use_motion_mid_block=False,
    )  # fmt: skip
    return randomised(adapter, 4, dtype)


@pytest.fixture
def clip_unet(diffusers: ModuleType, randomised: Randomised, dtype: torch.dtype) -> Any:
    network = diffusers.UNet3DConditionModel(
        **SPATIAL, attention_head_dim=8, down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
    )  # fmt: skip
    return randomised(network, 3, dtype)
