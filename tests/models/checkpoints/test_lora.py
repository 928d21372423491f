"""LoRA: every family of names reaches the right weights, sums are right and rounded once, nothing is half-done."""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from public_configs import MODELSCOPE, VIDEOCRAFTER2
from safetensors.torch import save_file
from torch import Tensor, nn

from ivmix.models import CLIPText, CLIPTextConfig, LoRA, MotionConfig, UNet, UNetConfig, merge_loras, read_lora
from ivmix.models.checkpoints import hub
from ivmix.models.checkpoints.lora import match, names_of_modules, parse_lora
from ivmix.models.checkpoints.state import StateError
from ivmix.models.meta import build

Shapes = dict[str, tuple[int, ...]]
TEXT_CONFIG = CLIPTextConfig(
    vocab_size=30, hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
    max_position_embeddings=7,
)  # fmt: skip
V2 = MotionConfig(max_frames=32, mid_block=True)
BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0."
TO_Q = BLOCK + "attn1.to_q"
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def on_file(shapes: Shapes) -> dict[str, Tensor]:
    """Tensors of these shapes without data; but alpha is read."""
    return {key: torch.empty(shape, device="meta") if shape else torch.tensor(8.0) for key, shape in shapes.items()}


def changed(network: nn.Module, merged: nn.Module) -> set[str]:
    """The parameters that the two do not share."""
    theirs = dict(merged.named_parameters())
    return {key for key, parameter in network.named_parameters() if theirs[key] is not parameter}


@pytest.fixture(scope="module")
def full_size() -> dict[str, nn.Module]:
    """AnimateDiff v2's UNet and its text encoder, on meta."""
    return {"unet": build(UNet, UNetConfig(temporal=V2)), "text_encoder": build(CLIPText, CLIPTextConfig())}


@pytest.fixture
def unet(image_config: UNetConfig, randomised: Callable[..., UNet]) -> UNet:
    return randomised(UNet(image_config))


def factors(network: nn.Module, paths: Iterable[str], normal: Callable[..., Tensor], rank: int = 3) -> dict[str, Any]:
    """Path of a module -> (down, up, alpha)."""
    found = {}
    for seed, path in enumerate(paths):
        weight: Tensor = network.get_parameter(f"{path}.weight")
        down = normal(rank, *weight.shape[1:], seed=2 * seed) / weight[0].numel() ** 0.5
        up = normal(len(weight), rank, *[1] * (weight.ndim - 2), seed=2 * seed + 1)
        found[path] = down.to(weight.dtype), up.to(weight.dtype), 2.0
    return found


def kohya(path: str, down: Tensor, up: Tensor, alpha: float) -> dict[str, Tensor]:
    prefix = "lora_te_" if path.startswith("text_model") else "lora_unet_"
    key = prefix + path.replace(".", "_")
    if "proj_in" in path or "proj_out" in path:
        down, up = down[:, :, None, None], up[:, :, None, None]                   # they are convolutions in SD 1.x
    return {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.alpha": torch.tensor(alpha)}


def old_diffusers(path: str, down: Tensor, up: Tensor, alpha: float) -> dict[str, Tensor]:
    """No alpha there: the file holds it in up."""
    block, _, layer = path.replace(".to_out.0", ".to_out").rpartition(".")
    if path.startswith("text_model"):
        key = f"text_encoder.{block}.to_{layer.removesuffix('_proj')}_lora"
    else:
        key = f"{block}.processor.{layer}_lora"
    return {f"{key}.down.weight": down, f"{key}.up.weight": up * (alpha / len(down))}


def original_motion(path: str, down: Tensor, up: Tensor, alpha: float) -> dict[str, Tensor]:
    state = old_diffusers(path, down, up, alpha)
    if "motion_modules" in path:
        names = {r"(motion_modules\.\d)": r"\1.temporal_transformer", "attn(1|2)": "attention_blocks.\\1"}
        for ours, theirs in names.items():
            state = {re.sub(ours, theirs, key): tensor for key, tensor in state.items()}
        for n in ("1", "2"):
            state = {key.replace(f"blocks.{n}.p", f"blocks.{int(n) - 1}.p"): tensor for key, tensor in state.items()}
    return state


def new_diffusers(path: str, down: Tensor, up: Tensor, alpha: float) -> dict[str, Tensor]:
    text = path.startswith("text_model")
    key, layer = (f"text_encoder.{path}", "lora_linear_layer") if text else (f"unet.{path}", "lora")
    return {
        f"{key}.{layer}.down.weight": down, f"{key}.{layer}.up.weight": up, f"{key}.alpha": torch.tensor(alpha)
    }  # fmt: skip


def peft(path: str, down: Tensor, up: Tensor, alpha: float) -> dict[str, Tensor]:
    key = ("text_encoder." if path.startswith("text_model") else "unet.") + path
    return {f"{key}.lora_A.weight": down, f"{key}.lora_B.weight": up, f"{key}.alpha": torch.tensor(alpha)}


def plain_peft(path: str, down: Tensor, up: Tensor, alpha: float) -> dict[str, Tensor]:
    key = f"base_model.model.{path}"
    return {f"{key}.lora_A.style.weight": down, f"{key}.lora_B.style.weight": up * (alpha / len(down))}


Family = Callable[..., dict[str, Tensor]]
FAMILIES: list[Family] = [kohya, old_diffusers, original_motion, new_diffusers, peft, plain_peft]


def written(family: Family, parts: dict[str, Any], name: str = "style") -> LoRA:
    return parse_lora(name, {key: t for path, part in parts.items() for key, t in family(path, *part).items()})


def attention_paths(network: nn.Module) -> list[str]:
    return [path for path, m in network.named_modules() if isinstance(m, nn.Linear) and re.search("attn", path)]


# ---- names


@pytest.mark.parametrize(
    ("name", "temporal", "modules", "rank"),
    [
        ("lora_lcm_sd15_kohya", None, 278, 64),
        ("lora_lcm_sd15_kohya", V2, 278, 64),
        ("animatediff_v2_motion_lora_orig", V2, 168, 64),
        ("animatediff_v3_adapter_lora_orig", None, 128, 128),
        ("animatediff_v3_adapter_lora_orig", MotionConfig(), 128, 128),
    ],
)
def test_every_key_of_a_public_file_reaches_a_weight_it_fits(
    name: str, temporal: MotionConfig | None, modules: int, rank: int, manifest: Callable[[str], tuple[Shapes, int]]
) -> None:
    shapes, _ = manifest(name)
    lora = parse_lora(name, on_file(shapes))
    unet = build(UNet, UNetConfig(temporal=temporal))
    assert lora.ranks == (rank,)
    assert list(lora.factors) == ["unet"]
    assert len(match(unet, [(lora, 1.0)])) == modules == sum(key.endswith("down.weight") for key in shapes)


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight", "down_blocks.0.attentions.0.proj_in"),
        ("lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_ff_net_0_proj.lora_down.weight",
         "up_blocks.3.attentions.2.transformer_blocks.0.ff.net.0.proj"),
        ("lora_unet_down_blocks_1_resnets_0_conv_shortcut.lora_down.weight", "down_blocks.1.resnets.0.conv_shortcut"),
        ("lora_unet_down_blocks_0_downsamplers_0_conv.lora_down.weight", "down_blocks.0.downsamplers.0.conv"),
        ("lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_out_0.lora_down.weight", BLOCK + "attn2.to_out.0"),
        ("lora_unet_output_blocks_5_2_conv.lora_down.weight", "up_blocks.1.upsamplers.0.conv"),
        ("lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight",
         "text_model.encoder.layers.0.self_attn.q_proj"),
        (BLOCK + "attn1.processor.to_q_lora.down.weight", TO_Q),
        ("unet." + BLOCK + "attn2.processor.to_out_lora.down.weight", BLOCK + "attn2.to_out.0"),
        ("text_encoder.text_model.encoder.layers.11.self_attn.to_out_lora.down.weight",
         "text_model.encoder.layers.11.self_attn.out_proj"),
        ("unet." + BLOCK + "attn1.to_out.0.lora.down.weight", BLOCK + "attn1.to_out.0"),
        ("unet.mid_block.attentions.0.proj_in.lora.down.weight", "mid_block.attentions.0.proj_in"),
        ("text_encoder.text_model.encoder.layers.3.mlp.fc1.lora_linear_layer.down.weight",
         "text_model.encoder.layers.3.mlp.fc1"),
        ("unet." + TO_Q + ".lora_A.weight", TO_Q),
        ("unet." + TO_Q + ".lora_A.default.weight", TO_Q),
        ("base_model.model." + TO_Q + ".lora_A.weight", TO_Q),
        ("base_model.model.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight",
         "text_model.encoder.layers.0.self_attn.q_proj"),
        ("base_model.model.encoder.layers.0.self_attn.q_proj.lora_A.weight",
         "text_model.encoder.layers.0.self_attn.q_proj"),
        ("down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.1.processor."
         "to_k_lora.down.weight", "down_blocks.0.motion_modules.0.transformer_blocks.0.attn2.to_k"),
        ("unet.mid_block.motion_modules.0.transformer_blocks.0.attn2.processor.to_out_lora.down.weight",
         "mid_block.motion_modules.0.transformer_blocks.0.attn2.to_out.0"),
    ],
)  # fmt: skip
def test_a_published_key_names_this_module(key: str, path: str, full_size: dict[str, nn.Module]) -> None:
    network = full_size["text_encoder" if "text" in path else "unet"]
    weight = network.get_parameter(f"{path}.weight")
    ones = [1, 1] if "proj_in" in path and "lora_unet" in key else [1] * (weight.ndim - 2)
    down, up = (4, *weight.shape[1:], *ones) if weight.ndim == 2 else (4, *weight.shape[1:]), (len(weight), 4, *ones)
    pair = {"down.weight": "up.weight", "lora_A": "lora_B"}
    partner = next(key.replace(a, b) for a, b in pair.items() if a in key)
    lora = parse_lora("one", on_file({key: down, partner: up}))
    assert list(match(network, [(lora, 1.0)])) == [path]


def test_stable_diffusions_original_names_reach_all_weights_of_the_unet(
    manifest: Callable[[str], tuple[Shapes, int]],
) -> None:
    shapes, _ = manifest("sd15_unet_ldm")
    unet = build(UNet, UNetConfig())
    names = names_of_modules(unet)
    reached = []
    for key, shape in shapes.items():
        if key.endswith(".weight") and len(shape) > 1:
            flat = key.removeprefix("model.diffusion_model.").removesuffix(".weight").replace(".", "_")
            reached.append(f"{names[flat]}.weight")
            ours = tuple(unet.get_parameter(reached[-1]).shape)
            assert ours == shape or (*ours, 1, 1) == shape
    assert sorted(reached) == sorted(key for key, p in unet.named_parameters() if key.endswith("weight") and p.ndim > 1)


@pytest.mark.parametrize(
    ("network", "config", "weights"),
    [
        (UNet, UNetConfig(), 282),
        (UNet, UNetConfig(temporal=V2), 282 + 21 * 12),                           # 21 modules of 12 linear layers
        (UNet, MODELSCOPE, 282 + 22 * 4 + 17 * 12),
        (UNet, VIDEOCRAFTER2, 282 + 22 * 4 + 17 * 12 + 2),
        (CLIPText, CLIPTextConfig(), 74),
    ],
    ids=["SD 1.5", "AnimateDiff v2", "ModelScope", "VideoCrafter2", "CLIP"],
)
def test_flat_names_are_unambiguous(network: Any, config: Any, weights: int) -> None:
    """That no name means two modules is asserted while the table is made; none must be lost either."""
    assert len(set(names_of_modules(build(network, config)).values())) == weights


def test_every_family_gives_the_same_bits(
    image_config: UNetConfig, motion: MotionConfig, randomised: Callable[..., Any], normal: Callable[..., Tensor]
) -> None:
    unet = randomised(UNet(replace(image_config, temporal=motion)), dtype=torch.float32)
    text = randomised(CLIPText(TEXT_CONFIG), dtype=torch.float32)
    for network in (unet, text):
        paths = attention_paths(network)
        # alpha / rank is a power of two: whether it stands beside up or in it makes no difference to the bits.
        parts = factors(network, paths, normal, rank=4)
        states = [merge_loras(network, [(written(family, parts), 0.7)]).state_dict() for family in FAMILIES]
        for state in states[1:]:
            assert all(torch.equal(state[key], states[0][key]) for key in states[0])
        assert changed(network, merge_loras(network, [(written(kohya, parts), 0.7)])) == {f"{p}.weight" for p in paths}


# ---- sums


def test_a_merged_layer_is_the_layer_plus_the_two_small_ones(
    unet: UNet, normal: Callable[..., Tensor], difference: Callable[[Tensor, Tensor], float]
) -> None:
    """The definition of LoRA: y = layer(x) + weight · alpha / rank · up(down(x)), linear or convolution."""
    convolutions = ["resnets.0.conv1", "downsamplers.0.conv"]
    paths = [TO_Q, "down_blocks.0.attentions.0.proj_in", "down_blocks.1.resnets.0.conv_shortcut"]
    parts = factors(unet, paths + [f"down_blocks.0.{layer}" for layer in convolutions], normal)
    merged = merge_loras(unet, [(written(kohya, parts), 0.7)])
    for path, (down, up, alpha) in parts.items():
        layer: Any = unet.get_submodule(path)
        x = normal(2, *layer.weight.shape[1:2], *[8] * (down.ndim - 2), seed=9)
        if down.ndim == 2:
            small = x @ down.T @ up.T
        else:
            small = F.conv2d(F.conv2d(x, down, None, layer.stride, layer.padding), up)
        wanted = layer(x) + 0.7 * alpha / 3 * small
        assert difference(merged.get_submodule(path)(x), wanted) < 1e-14          # a few units of float64


@pytest.mark.parametrize("dtype", DTYPES)
def test_several_loras_are_summed_high_and_rounded_once(
    dtype: torch.dtype, unet: UNet, normal: Callable[..., Tensor]
) -> None:
    unet = unet.to(dtype)
    weight = unet.get_parameter(f"{TO_Q}.weight")
    (down, up, _) = factors(unet, [TO_Q], normal)[TO_Q]
    loras = [(written(kohya, {TO_Q: (down, up, alpha)}, str(alpha)), 0.3) for alpha in (1.0, 2.0, 4.0)]
    merged = merge_loras(unet, loras).get_parameter(f"{TO_Q}.weight")
    exact = weight.double() + 0.3 * 7 / 3 * (up.double() @ down.double())
    assert merged.dtype == dtype
    # Half a unit in the last place of the result, and a few of those of the wider type that summed.
    wide = torch.finfo(torch.promote_types(dtype, torch.float32)).eps * float(exact.abs().max())
    assert ((merged.double() - exact).abs() <= 0.5 * torch.finfo(dtype).eps * exact.abs() + 8 * wide).all()


def test_merging_is_linear_in_the_weights(
    unet: UNet, normal: Callable[..., Tensor], difference: Callable[[Tensor, Tensor], float]
) -> None:
    paths = attention_paths(unet)
    a, b = (written(peft, factors(unet, paths, lambda *s, seed, k=k: normal(*s, seed=seed + k))) for k in (0, 1000))

    def delta(*loras: tuple[LoRA, float]) -> Tensor:
        new, old = merge_loras(unet, loras).state_dict(), unet.state_dict()
        return torch.cat([(new[f"{p}.weight"] - old[f"{p}.weight"]).flatten() for p in paths])

    wanted = 0.7 * delta((a, 1.0)) - 1.5 * delta((b, 1.0))
    assert difference(delta((a, 0.7), (b, -1.5)), wanted) < 1e-14
    assert difference(delta((a, 0.4), (b, -1.5), (a, 0.3)), wanted) < 1e-14


def test_weight_zero_changes_nothing(unet: UNet, normal: Callable[..., Tensor]) -> None:
    lora = written(kohya, factors(unet, attention_paths(unet), normal))
    assert changed(unet, merge_loras(unet, [(lora, 0.0)])) == set()


# ---- what merging leaves alone


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_original_keeps_its_bits_and_the_rest_is_shared(
    dtype: torch.dtype, unet: UNet, normal: Callable[..., Tensor]
) -> None:
    unet = unet.to(dtype)
    before = {key: (value.data_ptr(), value.clone()) for key, value in unet.state_dict().items()}
    parts = factors(unet, [TO_Q], normal)
    merged = merge_loras(unet, [(written(kohya, parts), 1.0)])
    twice = merge_loras(merged, [(written(kohya, parts), -1.0)])
    assert changed(unet, merged) == changed(unet, twice) == changed(merged, twice) == {f"{TO_Q}.weight"}
    assert merged.training == unet.training
    assert not any(p.requires_grad for p in merged.parameters())
    after, shared = unet.state_dict(), merged.state_dict()
    for key, (place, bits) in before.items():
        assert after[key].data_ptr() == place
        assert torch.equal(after[key].view(torch.uint8), bits.view(torch.uint8))
        assert key == f"{TO_Q}.weight" or shared[key].data_ptr() == place


def test_the_order_of_memory_stays(unet: UNet, normal: Callable[..., Tensor]) -> None:
    path = "down_blocks.0.resnets.0.conv1"
    lora = written(kohya, factors(unet, [path], normal))
    plain = merge_loras(unet, [(lora, 1.0)]).get_parameter(f"{path}.weight")
    last = merge_loras(unet.to(memory_format=torch.channels_last), [(lora, 1.0)]).get_parameter(f"{path}.weight")
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(plain, last)


def test_a_condition_is_bound_to_the_weights_that_made_it(unet: UNet, normal: Callable[..., Tensor]) -> None:
    lora = written(kohya, factors(unet, [BLOCK + "attn2.to_k"], normal))
    merged = merge_loras(unet, [(lora, 1.0)])
    z, t, context = normal(1, 4, 1, 8, 8), torch.tensor(5.0), normal(1, 3, 12)
    with pytest.raises(ValueError, match="belongs to another network"):
        merged(z, t, unet.condition(context))
    assert not torch.equal(merged(z, t, merged.condition(context)), unet(z, t, unet.condition(context)))


# ---- files


def test_a_file_of_either_kind_or_its_folder_is_read(
    unet: UNet, normal: Callable[..., Tensor], tmp_path: Path
) -> None:
    state = old_diffusers(TO_Q, *factors(unet, [TO_Q], normal)[TO_Q])
    wanted = merge_loras(unet, [(parse_lora("style", state), 1.0)]).get_parameter(f"{TO_Q}.weight")
    save_file(state, tmp_path / "style.safetensors")
    torch.save({"state_dict": state, "animatediff_config": {}}, tmp_path / "style.ckpt")
    for source in (tmp_path / "style.ckpt", str(tmp_path / "style.safetensors"), tmp_path):
        lora = read_lora(source)
        assert lora.families == ("diffusers 2022-23",)
        assert torch.equal(merge_loras(unet, [(lora, 1.0)]).get_parameter(f"{TO_Q}.weight"), wanted)
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"2 files: name one of other\.safetensors, style\.safetensors"):
        read_lora(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_lora(tmp_path / "nowhere")


def test_a_source_on_the_hub_names_one_file_and_brings_pefts_config_along() -> None:
    with pytest.raises(ValueError, match=r"name the file, hub:owner/name/file\.safetensors"):
        read_lora("hub:owner/style")
    names = dict.fromkeys(["adapter_config.json", "adapter_model.safetensors", "a/style.safetensors"])
    for name, wanted in (
        ("a/style.safetensors", ["a/style.safetensors"]),
        ("adapter_model.safetensors", ["adapter_model.safetensors", "adapter_config.json"]),
    ):
        assert hub.files_of(hub.parse(f"hub:owner/style/{name}"), names, "lora", None) == wanted


CONFIGS: list[tuple[dict[str, Any], float]] = [
    ({}, 1.0),
    ({"r": 3, "lora_alpha": 6}, 2.0),
    ({"lora_alpha": 6, "use_rslora": True}, 6 / 3**0.5),
    ({"lora_alpha": 6, "alpha_pattern": {"attn1.to_q": 12, "to_k": 9}}, 4.0),
    ({"lora_alpha": 6, "alpha_pattern": {"o_q": 12}}, 2.0),
]


@pytest.mark.parametrize(("config", "scale"), CONFIGS)
@pytest.mark.parametrize("place", ["beside", "header", "header of a pipeline"])
def test_peft_tells_alpha_outside_the_tensors(
    config: dict[str, Any], scale: float, place: str, unet: UNet, normal: Callable[..., Tensor], tmp_path: Path
) -> None:
    down, up, _ = factors(unet, [TO_Q], normal)[TO_Q]
    prefix = "unet." if place == "header of a pipeline" else ""
    state = {f"{prefix}{TO_Q}.lora_A.weight": down, f"{prefix}{TO_Q}.lora_B.weight": up}
    header = {"lora_adapter_metadata": json.dumps({prefix + key: value for key, value in config.items()})}
    save_file(state, tmp_path / "adapter_model.safetensors", metadata=header if place != "beside" else None)
    if place == "beside":
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    [found] = read_lora(tmp_path).factors["unet"].values()
    assert found.scale == pytest.approx(scale, rel=1e-15)


def test_alpha_is_the_rank_where_nothing_tells_it(unet: UNet, normal: Callable[..., Tensor]) -> None:
    state = kohya(TO_Q, *factors(unet, [TO_Q], normal)[TO_Q])
    assert [f.scale for f in parse_lora("with", state).factors["unet"].values()] == [2 / 3]
    del state["lora_unet_" + TO_Q.replace(".", "_") + ".alpha"]
    assert [f.scale for f in parse_lora("without", state).factors["unet"].values()] == [1.0]


# ---- what is refused

KEY = "lora_unet_" + TO_Q.replace(".", "_")


def hostile(**tensors: Tensor | None) -> dict[str, Tensor]:
    state = {"lora_down.weight": torch.ones(3, 8), "lora_up.weight": torch.ones(8, 3), "alpha": torch.tensor(1.0)}
    return {f"{KEY}.{name}": value for name, value in {**state, **tensors}.items() if value is not None}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "holds no tensors"),
        (hostile(**{"lora_down.weight": None}), r"_to_q\.lora_up\.weight and .*_to_q\.alpha, but no down"),
        (hostile(**{"lora_up.weight": None}), "but no up"),
        (hostile(**{"lora_up.weight": None, "lora_down.weight": None}), "but no down and no up"),
        (hostile(**{"lora_up.weight": torch.ones(8, 2)}), r"\(3, 8\) and .*lora_up\.weight \(8, 2\) do not multiply"),
        (hostile(**{"lora_up.weight": torch.ones(8, 3, 3, 3)}), "do not multiply"),
        (hostile(**{"lora_up.weight": torch.ones(8)}), "do not multiply"),
        (hostile(**{"lora_up.weight": torch.ones(8, 0), "lora_down.weight": torch.ones(0, 8)}), "do not multiply"),
        (hostile(**{"lora_up.weight": torch.ones(8, 3, dtype=torch.int8)}), "int8: expected floating point"),
        (hostile(alpha=torch.ones(2)), "alpha of .* is not one finite number"),
        (hostile(alpha=torch.tensor(float("nan"))), "alpha of .* is not one finite number"),
        (hostile(beta=torch.ones(())), r"cannot read the key .*_to_q\.beta"),
        ({"conv_in.weight": torch.ones(8, 4, 3, 3)}, r"cannot read the key conv_in\.weight"),
        (hostile(**{"lora_A.weight": torch.ones(3, 8)}), "two keys of one meaning"),
        (hostile(dora_scale=torch.ones(8, 1)), "is DoRA"),
        ({f"unet.{TO_Q}.lora_magnitude_vector": torch.ones(8)}, "is DoRA"),
        ({f"{KEY}.hada_w1_a": torch.ones(8, 3)}, "is LoHa"),
        ({f"{KEY}.lokr_w1": torch.ones(8, 3)}, "is LoKr"),
        (hostile(**{"lora_mid.weight": torch.ones(3, 3, 3, 3)}), "Tucker"),
        ({f"{KEY}.diff": torch.ones(8, 8)}, "full difference"),
        ({f"{KEY}.diff_b": torch.ones(8)}, "full difference"),
    ],
)
def test_a_file_that_is_no_plain_lora_is_one_clear_error(state: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_lora("style", state)


@pytest.mark.parametrize(
    "config",
    ["[1]", '{"lora_alpha": "much"}', '{"alpha_pattern": 3}', '{"alpha_pattern": {"(.*)*": 1}}',
     '{"lora_alpha": NaN}', '{"lora_alpha"', '{"lora_alpha": 1e999}'],
)  # fmt: skip
def test_a_damaged_config_of_peft_is_one_clear_error(config: str, tmp_path: Path) -> None:
    state = {f"{TO_Q}.lora_A.weight": torch.ones(3, 8), f"{TO_Q}.lora_B.weight": torch.ones(8, 3)}
    save_file(state, tmp_path / "style.safetensors", metadata={"lora_adapter_metadata": config})
    with pytest.raises(ValueError, match=r"style\.safetensors"):
        read_lora(tmp_path)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (hostile(**{"lora_down.weight": torch.ones(3, 9)}), r".* \(3, 9\) and its up \(8, 3\) do not make \(8, 8\)"),
        (hostile(**{"lora_up.weight": torch.ones(9, 3)}), r"do not make \(8, 8\)"),
        (hostile(**{"lora_down.weight": torch.ones(3, 8, 3, 3)}), r"do not make \(8, 8\)"),
        ({key.replace("to_q", "to_qx"): tensor for key, tensor in hostile().items()}, r"no module for .*_to_qx"),
        ({**hostile(), **{key.replace("down_blocks_0_attentions_0", "input_blocks_1_1"): tensor for key, tensor in
                          hostile().items()}}, r"down_blocks_0.*down\.weight and .*input_blocks_1.* are one module"),
    ],
)
def test_a_lora_of_another_network_is_refused_before_anything_is_merged(
    state: dict[str, Tensor], message: str, unet: UNet
) -> None:
    with pytest.raises(StateError, match=message):
        merge_loras(unet, [(parse_lora("good", hostile()), 1.0), (parse_lora("bad", state), 1.0)])


def test_a_lora_without_a_part_for_the_network_is_refused(unet: UNet, randomised: Callable[..., CLIPText]) -> None:
    text = randomised(CLIPText(TEXT_CONFIG))
    with pytest.raises(ValueError, match="style adds to unet only, not to CLIPText"):
        merge_loras(text, [(parse_lora("style", hostile()), 1.0)])
    for weight in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="finite"):
            merge_loras(unet, [(parse_lora("style", hostile()), weight)])


def test_a_camera_motion_of_v2_is_refused_by_v3(manifest: Callable[[str], tuple[Shapes, int]]) -> None:
    lora = parse_lora("ZoomIn", on_file(manifest("animatediff_v2_motion_lora_orig")[0]))
    with pytest.raises(StateError, match=r"no module for mid_block\.motion_modules\.0\.temporal_transformer"):
        merge_loras(build(UNet, UNetConfig(temporal=MotionConfig())), [(lora, 1.0)])
