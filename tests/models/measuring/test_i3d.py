"""I3D: its public file, padding as TensorFlow defines it, and what it refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from ivmix.models import I3D, I3DConfig, inspect, load_folder, load_i3d, save_folder
from ivmix.models.measuring.i3d import LEAST_FRAMES, max_pool, padded

Manifest = Callable[[str], tuple[dict[str, tuple[int, ...]], int]]


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """The public file's tensors, drawn: norms off any neutral start, the counters of training included."""
    generator = torch.Generator().manual_seed(0)
    network = I3D(I3DConfig(1e-3))
    state = {}
    for key, value in network.state_dict().items():
        draw = torch.randn(value.shape, generator=generator)
        scale = (2 / value[0].numel()) ** 0.5 if value.ndim > 1 else 0.3
        state[key] = draw.abs() + 0.01 if key.endswith("var") else draw * scale + key.endswith("bn.weight")
        if key.endswith("running_var"):
            state[key.replace("running_var", "num_batches_tracked")] = torch.tensor(0)
    return state


@pytest.fixture
def file(state: dict[str, Tensor], tmp_path: Path) -> Path:
    torch.save(state, tmp_path / "i3d_pretrained_400.pt")
    return tmp_path / "i3d_pretrained_400.pt"


@pytest.fixture(scope="module")
def clips() -> Tensor:
    return torch.rand(1, 3, LEAST_FRAMES, 193, 193, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_the_public_file_is_taken_whole_and_its_eps_is_no_guess(
    file: Path, state: dict[str, Tensor], clips: Tensor
) -> None:
    (part,) = inspect(file).parts
    assert (part.name, part.layout, part.problems, part.config) == ("i3d", "I3D", (), None)
    assert len(inspect(file).dropped) == 57
    one, other = load_i3d(file, bn_eps=1e-3), load_i3d(file, bn_eps=1e-5)
    assert one.state_dict().keys() == {key for key in state if not key.endswith("num_batches_tracked")}
    logits = one(clips)
    assert logits.shape == (1, 400)
    assert (logits - other(clips)).abs().max() > 1e-4 * logits.abs().max()
    with pytest.raises(TypeError, match="bn_eps"):
        load_i3d(file)  # type: ignore[call-arg]


@pytest.mark.parametrize("wrapper", ["model", "module", "state_dict"])
def test_what_trainers_wrap_around_the_weights_is_taken_off(
    wrapper: str, state: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.save({wrapper: state, "epoch": 3}, tmp_path / "wrapped.pth")
    network = load_i3d(tmp_path / "wrapped.pth", bn_eps=1e-3)
    assert torch.equal(network.state_dict()["logits.conv3d.bias"], state["logits.conv3d.bias"])


def test_a_folder_of_ours_keeps_its_eps(file: Path, tmp_path: Path) -> None:
    save_folder(load_i3d(file, bn_eps=1e-5), tmp_path / "i3d")
    assert load_folder(I3D, I3DConfig, tmp_path / "i3d").config == I3DConfig(1e-5)
    assert inspect(tmp_path / "i3d").parts[0].config == I3DConfig(1e-5)
    assert load_i3d(tmp_path / "i3d", bn_eps=1e-5).config.bn_eps == 1e-5
    with pytest.raises(ValueError, match=r"^bn_eps=0.001, but .*config.json says 1e-05$"):
        load_i3d(tmp_path / "i3d", bn_eps=1e-3)


def test_a_file_that_lacks_a_key_is_refused_by_name(state: dict[str, Tensor], tmp_path: Path) -> None:
    short = {key: value for key, value in state.items() if key != "Mixed_4c.b2a.bn.running_var"}
    save_file(short, tmp_path / "short.safetensors")
    with pytest.raises(ValueError, match=r"does not fit I3D: missing Mixed_4c.b2a.bn.running_var \(24,\)"):
        load_i3d(tmp_path / "short.safetensors", bn_eps=1e-3)


@pytest.mark.parametrize("kernel", [1, 2, 3, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_padding_leaves_the_sides_divided_and_rounded_up_the_odd_zero_last(kernel: int, stride: int) -> None:
    """Output i reads inputs from i*stride - floor(zeros/2): TensorFlow's definition, read off a one in the input."""
    for size in range(1, 12):
        places = -(-size // stride)
        total = max((places - 1) * stride + kernel - size, 0)
        x = torch.arange(1.0, size + 1).reshape(1, 1, size, 1, 1)
        cut = padded(x, (kernel, 1, 1), (stride, 1, 1)).flatten().unfold(0, kernel, stride)
        assert len(cut) == places
        for i, row in enumerate(cut):
            inputs = range(i * stride - total // 2, i * stride - total // 2 + kernel)
            assert row.tolist() == [float(j + 1) if 0 <= j < size else 0 for j in inputs]


def test_every_axis_is_padded_for_itself(normal: Callable[..., Tensor]) -> None:
    x = normal(2, 3, 5, 6, 7).abs()
    out = max_pool(x, (3, 3, 3), (2, 2, 2))
    by_hand = F.max_pool3d(F.pad(x, (1, 1, 0, 1, 1, 1)), 3, 2)
    assert torch.equal(out, by_hand)
    assert out.shape == (2, 3, 3, 3, 4)


def test_logits_are_the_mean_over_times(file: Path, clips: Tensor) -> None:
    """The head sees every pair of neighbouring times: 17 frames give 3 times, hence two pairs."""
    network = load_i3d(file, bn_eps=1e-3)
    seen = list[Tensor]()
    network.logits.register_forward_hook(lambda module, inputs, output: seen.append(output))
    out = network(torch.cat([clips, clips[:, :, :8]], dim=2))
    assert seen[0].shape == (1, 400, 2, 1, 1)
    torch.testing.assert_close(out, (seen[0][:, :, 0] + seen[0][:, :, 1]).flatten(1) / 2)


@pytest.mark.parametrize(("shape", "said"), [
    ((1, 3, 8, 224, 224), "clips have 8 frames: I3D needs at least 9"),
    ((1, 3, 9, 64, 224), "clips are of 64x224 pixels: I3D takes 193 to 224 a side"),
    ((1, 3, 9, 224, 225), "clips are of 224x225 pixels"),
    ((1, 9, 3, 224, 224), r"clips have shape \(1, 9, 3, 224, 224\): expected \(b, 3, f, h, w\)"),
])  # fmt: skip
def test_what_the_head_cannot_pool_to_one_place_is_refused(shape: tuple[int, ...], said: str) -> None:
    with torch.device("meta"):
        network, clips = I3D(I3DConfig(1e-3)), torch.empty(shape)
    with pytest.raises(ValueError, match=said):
        network(clips)


@pytest.mark.parametrize("raw", [{}, {"bn_eps": 0.0, "classes": 400}, {"bn_eps": "small", "classes": 400}])
def test_a_config_without_a_sound_eps_is_none(raw: dict[str, Any]) -> None:
    with pytest.raises((ValueError, KeyError), match="bn_eps"):
        I3DConfig.from_dict(raw)
