"""The transformer: what it promises, and what it refuses. Its numbers are compared in tests/parity."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ivmix.models import Condition, DiT, DiTConfig, inspect, load_transformer, load_unet, perturbed, save_folder
from ivmix.models.checkpoints.state import StateError
from ivmix.models.dit.positions import along, sines

VIDEO = DiTConfig(
    num_layers=2, num_attention_heads=2, attention_head_dim=8, caption_channels=12, sample_size=8, temporal=4,
)  # fmt: skip
IMAGE = replace(VIDEO, temporal=None)
Normal = Callable[..., Tensor]


def network(config: DiTConfig = VIDEO) -> DiT:
    torch.manual_seed(0)
    return DiT(config).double().eval().requires_grad_(False)


def test_padding_says_nothing(normal: Normal) -> None:
    """Whatever stands where the mask is False, and however much of it, is not looked at."""
    dit, z, t = network(), normal(2, 4, 3, 8, 8), torch.tensor(300)
    context, mask = normal(2, 6, 12), torch.tensor([[True] * 4 + [False] * 2] * 2)
    said = dit(z, t, dit.condition(context[:, :4]))
    other = torch.where(mask[..., None], context, normal(2, 6, 12, seed=1))
    for states in (context, other):
        assert torch.allclose(dit(z, t, dit.condition(states, mask=mask)), said, atol=1e-12)
    assert not torch.allclose(dit(z, t, dit.condition(context)), said, atol=1e-3)


def test_rows_are_told_their_own_and_joined_ones_too(normal: Normal) -> None:
    dit, z, t = network(), normal(2, 4, 3, 8, 8), torch.tensor([10.0, 900.0])
    masks = [torch.tensor([[True] * n + [False] * (6 - n)]) for n in (2, 5)]
    told = [dit.condition(normal(1, 6, 12, seed=i), mask=mask) for i, mask in enumerate(masks)]
    both = dit(z, t, Condition.cat(told))
    for i in range(2):
        assert torch.allclose(dit(z[i : i + 1], t[i], told[i]), both[i : i + 1], atol=1e-12)
    plain = dit.condition(normal(1, 6, 12))
    assert Condition.cat([plain, plain]).mask is None
    with pytest.raises(ValueError, match="with a mask and without cannot be joined"):
        Condition.cat([plain, told[0]])


def test_frames_speak_to_each_other_over_time_alone(normal: Normal) -> None:
    """Without the blocks over frames each frame is an image: so it may be drawn in parts. With them it is not."""
    dit, z, t = network(), normal(1, 4, 3, 8, 8), torch.tensor(300)
    told = dit.condition(normal(1, 6, 12))
    alone = torch.cat([dit(z[:, :, i : i + 1], t, told, temporal=False) for i in range(3)], dim=2)
    assert torch.allclose(dit(z, t, told, temporal=False), alone, atol=1e-12)
    assert not torch.allclose(dit(z, t, told), alone, atol=1e-3)
    backwards = dit(z.flip(2), t, told).flip(2)
    assert not torch.allclose(dit(z, t, told), backwards, atol=1e-6)  # they have places
    image = DiT(IMAGE).double()
    image.load_state_dict({key: value for key, value in dit.state_dict().items() if "temporal" not in key})
    assert torch.equal(image(z, t, image.condition(normal(1, 6, 12))), dit(z, t, told, temporal=False))


def test_what_it_says_of_the_variance_is_left_out(normal: Normal) -> None:
    dit, z, t = network(), normal(1, 4, 2, 8, 8), torch.tensor(300)
    alone = DiT(replace(VIDEO, out_channels=4)).double()
    own = dict(dit.state_dict())
    for name in ("proj_out.weight", "proj_out.bias"):  # rows of a patch's pixels, and of each its channels
        own[name] = own[name].unflatten(0, (4, 8))[:, :4].flatten(0, 1)
    alone.load_state_dict(own)
    context = normal(1, 6, 12)
    assert torch.allclose(alone(z, t, alone.condition(context)), dit(z, t, dit.condition(context)), atol=1e-12)


def test_positions_of_other_sizes_run_over_the_range_that_was_trained() -> None:
    assert along(32, 32, 1).tolist() == list(range(32))
    assert along(64, 32, 1)[::2].tolist() == list(range(32))
    assert along(64, 64, 2).tolist() == [n / 2 for n in range(64)]
    table = sines(torch.arange(3), 6)
    assert table.dtype == torch.float32
    assert table[0].tolist() == [0, 0, 0, 1, 1, 1]
    angles = [2 / 10000 ** (i / 3) for i in range(3)]
    assert table[2].tolist() == pytest.approx([*map(math.sin, angles), *map(math.cos, angles)])


@pytest.mark.parametrize("name", ["transformer_blocks.1", "temporal_transformer_blocks.0"])
def test_a_view_leaves_a_block_out_or_its_attention_identical(name: str, normal: Normal) -> None:
    dit, z, t = network(), normal(1, 4, 3, 8, 8), torch.tensor(300)
    told = dit.condition(normal(1, 6, 12))
    plain = dit(z, t, told)
    for view in (perturbed(dit, skip=[name]), perturbed(dit, identity=[name])):
        seen = view(z, t, replace(told, network=view))
        assert seen.isfinite().all()
        assert not torch.allclose(seen, plain, atol=1e-3)
    assert torch.equal(dit(z, t, told), plain)


def test_what_it_cannot_be_asked_is_one_clear_error(normal: Normal) -> None:
    dit, t, context = network(), torch.tensor(300), normal(2, 6, 12)
    told = dit.condition(context)
    none = torch.zeros(2, 6, dtype=torch.bool)
    for call, message in (
        (lambda: dit.condition(context[..., :5]), r"context has shape \(2, 6, 5\): expected \(b, l, 12\)"),
        (lambda: dit.condition(context, fps=8), "fps=8: expected none"),
        (lambda: dit.condition(context, mask=none), "mask: a row is False everywhere"),
        (lambda: dit.condition(context, mask=none[:, :5]), r"mask has shape \(2, 5\), .*: expected \(2, 6\)"),
        (lambda: dit.condition(context, mask=none.int()), "of torch.int32: expected"),
        (lambda: dit(normal(2, 4, 5, 8, 8), t, told), "5 frames, but this transformer knows positions for 4"),
        (lambda: dit(normal(2, 4, 3, 7, 8), t, told), "latents of 7x8: height and width must be multiples of 2"),
        (lambda: dit(normal(2, 5, 3, 8, 8), t, told), r"expected \(b, 4, f, h, w\)"),
        (lambda: dit(normal(1, 4, 3, 8, 8), t, told), "z has 1 rows, the condition 2"),
        (lambda: dit(normal(2, 4, 3, 8, 8), t.expand(3), told), r"t has shape \(3,\): expected \(\) or \(2,\)"),
        (lambda: network()(normal(2, 4, 3, 8, 8), t, told), "belongs to another network"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert dit(normal(2, 4, 5, 8, 8), t, told, temporal=False).shape == (2, 4, 5, 8, 8)


def test_what_stood_for_no_caption_in_training_is_left_out_of_pixart_s_files(tmp_path: Path) -> None:
    """diffusers, which wrote them with it, says so of them today: "caption_projection.y_embedding" was not used."""
    good, file = network(IMAGE), tmp_path / "transformer" / "diffusion_pytorch_model.safetensors"
    save_folder(good, tmp_path / "transformer")
    save_file(load_file(file) | {"caption_projection.y_embedding": torch.ones(120, 12)}, file)
    read = load_transformer(tmp_path)
    assert read.state_dict().keys() == good.state_dict().keys()
    assert inspect(file.parent).parts[0].problems == ()


@pytest.mark.slow
def test_files_that_are_not_what_they_say_are_refused(tmp_path: Path) -> None:
    good, folder = network(IMAGE), tmp_path / "transformer"
    save_folder(good, folder)
    config = folder / "config.json"
    raw = json.loads(config.read_text())
    assert load_transformer(tmp_path).config == IMAGE
    assert inspect(folder).parts[0].problems == ()
    for entries, message in (
        ({"_class_name": "LatteTransformer3DModel", "video_length": 4}, "missing temporal_transformer_blocks.0"),
        ({"num_layers": 3}, r"missing transformer_blocks\.2"),
        ({"num_layers": 1}, r"unexpected transformer_blocks\.1"),
        ({"caption_channels": 13}, r"caption_projection.linear_1.weight is \(16, 12\), expected \(16, 13\)"),
        ({"num_layers": 10**9}, "more than 5,000 tensors"),
        ({"attention_head_dim": 10**6}, "describes no DiT: cross_attention_dim is 16"),
        ({"sample_size": 10**10}, "sample_size is 10000000000, expected a whole number"),
    ):
        config.write_text(json.dumps(raw | entries))
        with pytest.raises((ValueError, StateError), match=message) as caught:
            load_transformer(tmp_path)
        assert "\n" not in str(caught.value)
        assert inspect(folder).parts[0].problems
    config.write_text(json.dumps(raw))
    file = folder / "diffusion_pytorch_model.safetensors"
    sizes = {f"adaln_single.emb.{part}.linear_1.weight": torch.ones(2, 2)
             for part in ("resolution_embedder", "aspect_ratio_embedder")}  # fmt: skip
    save_file(load_file(file) | sizes, file)
    with pytest.raises(StateError, match=r"unexpected adaln_single\.emb\.aspect_ratio_embedder"):
        load_transformer(tmp_path)
    config.write_text(json.dumps(raw | {"use_additional_conditions": True}))
    with pytest.raises(ValueError, match=r"config\.json describes no DiT: its network is told the size and aspect"):
        load_transformer(tmp_path)
    config.unlink()
    with pytest.raises(FileNotFoundError, match="holds no weight file for transformer"):
        load_transformer(tmp_path)
    with pytest.raises(ValueError, match=r"does not tell its config \(a transformer of 16 channels"):
        load_transformer(folder / "diffusion_pytorch_model.safetensors")
    with pytest.raises(ValueError, match="it holds no unet, but a transformer"):
        load_unet(folder / "diffusion_pytorch_model.safetensors")
