"""The loader: small networks written to disk in every public layout come back bit by bit."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ivmix.models import (
    VAE,
    CLIPText,
    CLIPTextConfig,
    MotionConfig,
    SpaceTimeConfig,
    UNet,
    UNetConfig,
    VAEConfig,
    inspect,
    load_text_encoder,
    load_unet,
    load_vae,
    save_folder,
)
from ivmix.models.checkpoints.layouts import LAYOUTS
from ivmix.models.checkpoints.rules import Layout, LayoutError
from ivmix.models.checkpoints.state import StateError

BY_NAME = {layout.name: layout for layout in LAYOUTS}
State = dict[str, Tensor]

SPATIAL = UNetConfig(
    block_out_channels=(8, 16), attention_levels=(True, False), cross_attention_dim=12, num_attention_heads=(2, 4),
    norm_num_groups=4,
)  # fmt: skip
DEEPER = replace(  # upsamplers with and without an attention before them
    SPATIAL, block_out_channels=(8, 16, 16), attention_levels=(True, True, False), num_attention_heads=(2, 4, 4)
)
MOTION = MotionConfig(max_frames=6, mid_block=True)
AUTOENCODER = VAEConfig(block_out_channels=(4, 4, 8, 8), norm_num_groups=4)
TEXT = CLIPTextConfig(
    vocab_size=30, hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
    max_position_embeddings=7,
)  # fmt: skip


def public(layout: Layout, ours: State, prefix: str = "", convolutions: int = 0) -> State:
    """Our state in another layout: the table backwards. `convolutions`: how many 1s its matrices of 1x1 end in."""
    theirs: State = {}
    for key, tensor in ours.items():
        sources = layout.sources(key)
        assert sources, key
        if key.endswith("upsamplers.0.conv.weight") or key.endswith("upsamplers.0.conv.bias"):
            block = key.partition(".upsamplers")[0]
            before = sum(f"{block}.{kind}.0.norm.weight" in ours for kind in ("attentions", "temp_attentions"))
            sources = sources[before : before + 1] if len(sources) > 1 else sources
        hit = layout.look_up(sources[0])
        assert hit is not None
        rule, names = hit
        if len(names) > 1:
            tensor = torch.cat([ours[name] for name in names])
        if rule.linear and convolutions and tensor.ndim == 2 and ("proj_" in key or "mid_block.attentions" in key):
            tensor = tensor[(...,) + (None,) * convolutions]
        theirs |= {prefix + source: tensor.clone() for source in sources}
    return theirs


def same(network: nn.Module, state: State) -> bool:
    found = network.state_dict()
    return found.keys() == state.keys() and all(
        found[k].dtype == state[k].dtype and torch.equal(found[k], state[k]) for k in state
    )


Make = Callable[..., Any]


@pytest.fixture(scope="module")
def unet(randomised: Make) -> UNet:
    return randomised(UNet(SPATIAL), dtype=torch.float32)


@pytest.fixture(scope="module")
def video(unet: UNet, randomised: Make) -> UNet:
    """The same spatial weights with motion modules."""
    network = randomised(UNet(replace(SPATIAL, temporal=MOTION)), seed=1, dtype=torch.float32)
    network.load_state_dict(unet.state_dict(), strict=False)
    return network


@pytest.fixture(scope="module")
def vae(randomised: Make) -> VAE:
    return randomised(VAE(AUTOENCODER), seed=2, dtype=torch.float32)


@pytest.fixture(scope="module")
def text(randomised: Make) -> CLIPText:
    return randomised(CLIPText(TEXT), seed=3, dtype=torch.float32)


def modules(video: UNet) -> State:
    return {key: value for key, value in video.state_dict().items() if ".motion_modules." in key}


# --- every layout ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "prefix", "temporal", "convolutions"),
    [
        ("diffusers UNet", "", None, 0),
        ("diffusers UNet", "", None, 2),
        ("LDM UNet", "model.diffusion_model.", None, 2),
        ("LDM UNet", "model.diffusion_model.", None, 0),
        ("diffusers UNet", "", MOTION, 0),
        ("diffusers UNet", "", SpaceTimeConfig(), 0),
        ("ModelScope UNet", "", SpaceTimeConfig(), 1),
        ("diffusers UNet", "", SpaceTimeConfig(fps=True), 0),
        ("VideoCrafter2 UNet", "model.diffusion_model.", SpaceTimeConfig(fps=True), 1),
    ],
)
def test_a_unet_comes_back_from_every_layout(
    layout: str, prefix: str, temporal: Any, convolutions: int, randomised: Make, tmp_path: Path
) -> None:
    config = replace(DEEPER, temporal=temporal)
    network = randomised(UNet(config), dtype=torch.float32)
    state = public(BY_NAME[layout], network.state_dict(), prefix, convolutions)
    save_file(state, tmp_path / "a.safetensors")
    loaded = load_unet(tmp_path / "a.safetensors", config=config)
    assert loaded.config == config
    assert same(loaded, network.state_dict())


@pytest.mark.parametrize("wrapper", [None, "state_dict", "module", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "_forward_module."])
def test_a_pickle_of_tensors_comes_back_however_it_is_wrapped(
    wrapper: str | None, prefix: str, text: CLIPText, tmp_path: Path
) -> None:
    state = {prefix + key: value for key, value in text.state_dict().items()}
    torch.save({wrapper: state, "epoch": 3, "note": "x"} if wrapper else state, tmp_path / "a.ckpt")
    assert same(load_text_encoder(tmp_path / "a.ckpt", config=TEXT), text.state_dict())


@pytest.mark.parametrize(
    ("layout", "prefix", "convolutions"),
    [
        ("diffusers VAE", "", 0),
        ("diffusers VAE, old names", "", 0),
        ("LDM VAE", "", 2),
        ("LDM VAE", "first_stage_model.", 2),
    ],
)
def test_a_vae_comes_back_from_every_layout(
    layout: str, prefix: str, convolutions: int, vae: VAE, tmp_path: Path
) -> None:
    save_file(public(BY_NAME[layout], vae.state_dict(), prefix, convolutions), tmp_path / "a.safetensors")
    assert same(load_vae(tmp_path / "a.safetensors", config=AUTOENCODER), vae.state_dict())


@pytest.mark.parametrize(
    ("layout", "prefix"),
    [
        ("transformers text", ""),
        ("transformers text, no prefix", ""),
        ("transformers text", "cond_stage_model.transformer."),
        ("transformers text, no prefix", "cond_stage_model.transformer."),
        ("open_clip text", ""),
        ("open_clip text", "cond_stage_model.model."),
    ],
)
def test_a_text_encoder_comes_back_from_every_layout(
    layout: str, prefix: str, text: CLIPText, tmp_path: Path
) -> None:
    state = public(BY_NAME[layout], text.state_dict(), prefix)
    if layout == "open_clip text":  # what comes with it and is left out
        last = f"{prefix}transformer.resblocks.23.ln_1.weight"
        state |= {f"{prefix}logit_scale": torch.zeros(()), last: torch.ones(8)}
    save_file(state, tmp_path / "a.safetensors")
    assert same(load_text_encoder(tmp_path / "a.safetensors", config=TEXT), text.state_dict())


def single_file(unet: UNet, vae: VAE, text: CLIPText) -> State:
    return {
        **public(BY_NAME["LDM UNet"], unet.state_dict(), "model.diffusion_model.", 2),
        **public(BY_NAME["LDM VAE"], vae.state_dict(), "first_stage_model.", 2),
        **public(BY_NAME["transformers text"], text.state_dict(), "cond_stage_model.transformer."),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(7)[None],
        "betas": torch.zeros(1000),
        "model_ema.decay": torch.ones(()),
    }


def test_each_part_of_a_single_file_is_found(unet: UNet, vae: VAE, text: CLIPText, tmp_path: Path) -> None:
    file = tmp_path / "v1-5.safetensors"
    save_file(single_file(unet, vae, text), file)
    assert same(load_unet(file, config=SPATIAL), unet.state_dict())
    assert same(load_vae(file, config=AUTOENCODER), vae.state_dict())
    assert same(load_text_encoder(file, config=TEXT), text.state_dict())


def test_a_part_that_a_file_does_not_hold_is_named_with_what_it_holds(unet: UNet, tmp_path: Path) -> None:
    save_file(public(BY_NAME["LDM UNet"], unet.state_dict(), "model.diffusion_model."), tmp_path / "a.safetensors")
    with pytest.raises(LayoutError, match=r"a.safetensors: it holds no vae, but a unet \(LDM UNet\)"):
        load_vae(tmp_path / "a.safetensors")


def test_the_averaged_copy_is_taken_when_asked_for(
    unet: UNet, vae: VAE, text: CLIPText, randomised: Make, tmp_path: Path
) -> None:
    average = randomised(UNet(SPATIAL), seed=9, dtype=torch.float32).state_dict()
    state = single_file(unet, vae, text)
    copy = public(BY_NAME["LDM UNet"], average, "diffusion_model.", 2)
    save_file(state | {"model_ema." + k.replace(".", ""): v for k, v in copy.items()}, tmp_path / "full.safetensors")
    assert same(load_unet(tmp_path / "full.safetensors", config=SPATIAL), unet.state_dict())
    assert same(load_unet(tmp_path / "full.safetensors", config=SPATIAL, variant="ema"), average)
    save_file(state, tmp_path / "pruned.safetensors")
    with pytest.raises(ValueError, match=r"holds no averaged UNet, such as model_ema\.diffusion_modelinput.*: leave"):
        load_unet(tmp_path / "pruned.safetensors", config=SPATIAL, variant="ema")
    with pytest.raises(ValueError, match=r"variant='fp16' chooses a file of a folder"):
        load_unet(tmp_path / "pruned.safetensors", config=SPATIAL, variant="fp16")


# --- keys of no network ---------------------------------------------------------------------------------------------

STRAYS = {
    "embedding_manager.string_to_param_dict.*": torch.zeros(1), "denoiser.sigmas": torch.zeros(3),
    "v_pred": torch.ones(0), "ztsnr": torch.ones(0), "logvar": torch.zeros(3),
    "cond_stage_model.logit_scale": torch.ones(()),
    "cond_stage_model.transformer.text_projection.weight": torch.zeros(8, 8),
}  # fmt: skip


def test_what_merges_and_trainers_leave_in_a_single_file_is_left_out_by_name(
    unet: UNet, vae: VAE, text: CLIPText, tmp_path: Path
) -> None:
    save_file(single_file(unet, vae, text) | STRAYS, tmp_path / "a.safetensors")
    assert same(load_unet(tmp_path / "a.safetensors", config=SPATIAL), unet.state_dict())
    assert same(load_vae(tmp_path / "a.safetensors", config=AUTOENCODER), vae.state_dict())
    assert same(load_text_encoder(tmp_path / "a.safetensors", config=TEXT), text.state_dict())
    assert STRAYS.keys() <= set(inspect(tmp_path / "a.safetensors").dropped)


def test_a_networks_own_file_may_hold_markers_too(unet: UNet, tmp_path: Path) -> None:
    markers = {"v_pred": torch.ones(0), "alphas_cumprod": torch.ones(3)}
    save_file(unet.state_dict() | markers, tmp_path / "a.safetensors")
    assert same(load_unet(tmp_path / "a.safetensors", config=SPATIAL), unet.state_dict())


@pytest.mark.parametrize(
    ("layout", "others"),
    [
        ("transformers text", ("text_projection.weight", "visual_projection.weight", "logit_scale",
                               "vision_model.embeddings.class_embedding")),
        ("open_clip text", ("text_projection", "logit_scale", "visual.proj", "context_length", "input_resolution")),
    ],
)  # fmt: skip
def test_a_whole_clip_is_read_for_its_text_encoder(
    layout: str, others: tuple[str, ...], text: CLIPText, tmp_path: Path
) -> None:
    state = public(BY_NAME[layout], text.state_dict()) | {key: torch.zeros(2) for key in others}
    save_file(state, tmp_path / "clip.safetensors")
    assert same(load_text_encoder(tmp_path / "clip.safetensors", config=TEXT), text.state_dict())
    assert set(inspect(tmp_path / "clip.safetensors").dropped) == set(others)


def test_a_whole_clips_folder_is_read_for_its_text_encoder(text: CLIPText, tmp_path: Path) -> None:
    save_file(text.state_dict() | {"logit_scale": torch.ones(())}, tmp_path / "model.safetensors")
    raw = {"model_type": "clip", "text_config": TEXT.to_dict(), "vision_config": {"hidden_size": 8}}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    assert same(load_text_encoder(tmp_path), text.state_dict())


def test_a_stray_key_is_left_out_where_a_pattern_names_it_and_said_aloud(
    unet: UNet, video: UNet, tmp_path: Path
) -> None:
    save_file(unet.state_dict() | {f"stray.{i}": torch.zeros(1) for i in range(3)}, tmp_path / "a.safetensors")
    with pytest.raises(LayoutError, match=r"not: stray\.0, stray\.1, stray\.2\. .*--drop PATTERN \(drop= in Python\)"):
        load_unet(tmp_path / "a.safetensors", config=SPATIAL)
    with pytest.warns(UserWarning, match=r"a\.safetensors: 3 keys left out as asked, first stray\.0"):
        loaded = load_unet(tmp_path / "a.safetensors", config=SPATIAL, drop=["stray.*"])
    assert same(loaded, unet.state_dict())
    assert inspect(tmp_path / "a.safetensors", drop=["stray.[12]"]).problem.endswith("not: stray.0")
    save_folder(unet, tmp_path / "unet")
    found = inspect(tmp_path / "a.safetensors", drop=["stray.*"])
    assert (found.problem, found.dropped) == (None, ("stray.0", "stray.1", "stray.2"))
    save_file(modules(video) | {"stray.0": torch.zeros(1)}, tmp_path / "mm.safetensors")
    with pytest.warns(UserWarning, match=r"mm\.safetensors: 1 keys left out"):
        load_unet(tmp_path / "unet", motion=tmp_path / "mm.safetensors", config=SPATIAL, drop=["stray.*"])


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("strays.*", r"drop='strays\.\*' fits no key of .*a\.safetensors"),
        ("STRAY.*", "fits no key"),  # a key is a key
        ("*conv_out*", r"drop leaves conv_out\.bias out of .*a\.safetensors, which UNet needs"),
        ("*conv_in*", r"the key 'conv_in.weight' is missing \(without the 3 keys that drop names\)"),
        ("*down_blocks.0*", "drop leaves down_blocks.0.*, which UNet needs"),
        ("*", "drop names"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*left out as asked")
def test_a_pattern_that_fits_nothing_or_what_the_network_needs_is_refused(
    pattern: str, message: str, randomised: Make, tmp_path: Path
) -> None:
    """The config is told by the shapes: a network does not shrink to what a pattern leaves of it."""
    config = UNetConfig(block_out_channels=(32, 64), attention_levels=(True, False))
    unet = randomised(UNet(config), dtype=torch.float16)
    save_file(unet.state_dict() | {"stray.0": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=message):
        load_unet(tmp_path / "a.safetensors", drop=["stray.*", pattern])


# --- motion modules -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapped", [False, True], ids=["flat", "wrapped"])
@pytest.mark.parametrize("layout", ["AnimateDiff motion module", "diffusers MotionAdapter"])
def test_motion_modules_join_spatial_weights(
    layout: str, wrapped: bool, unet: UNet, video: UNet, tmp_path: Path
) -> None:
    save_folder(unet, tmp_path / "unet")
    state = public(BY_NAME[layout], modules(video))
    content: Any = state
    norms = {"joint_norm": layout == "diffusers MotionAdapter"}
    if wrapped:  # as the authors' trainer writes it
        content = {"epoch": 1, "state_dict": {f"module.{key}": value for key, value in state.items()}}
        content["state_dict"]["animatediff_config"] = {"a": 1}
    torch.save(content, tmp_path / "mm.ckpt")
    loaded = load_unet(tmp_path / "unet", motion=tmp_path / "mm.ckpt")
    assert loaded.config == replace(SPATIAL, temporal=replace(MOTION, **norms))
    assert same(loaded, video.state_dict())


def test_a_motion_adapter_s_folder_says_how_many_heads_it_has(unet: UNet, video: UNet, tmp_path: Path) -> None:
    save_folder(unet, tmp_path / "unet")
    (tmp_path / "adapter").mkdir()
    save_file(modules(video), tmp_path / "adapter" / "diffusion_pytorch_model.safetensors")
    raw = {"_class_name": "MotionAdapter", "motion_num_attention_heads": 4, "motion_norm_num_groups": 4}
    (tmp_path / "adapter" / "config.json").write_text(json.dumps(raw))
    loaded = load_unet(tmp_path / "unet", motion=tmp_path / "adapter")
    assert loaded.config.temporal == replace(MOTION, num_attention_heads=4)
    (tmp_path / "adapter" / "config.json").write_text(json.dumps(raw | {"motion_norm_num_groups": 32}))
    with pytest.raises(ValueError, match=r"no MotionAdapter for this UNet: motion_norm_num_groups is 32, only 4"):
        load_unet(tmp_path / "unet", motion=tmp_path / "adapter")


def test_the_caller_s_config_says_how_motion_modules_norm(unet: UNet, video: UNet, tmp_path: Path) -> None:
    save_folder(unet, tmp_path / "unet")
    save_file(modules(video), tmp_path / "mm.safetensors")
    config = replace(SPATIAL, temporal=replace(MOTION, joint_norm=False))
    assert load_unet(tmp_path / "unet", motion=tmp_path / "mm.safetensors", config=config).config == config


V1 = MotionConfig(max_frames=24)
NORMS = {"authors": (False, False), "diffusers": (True, False), "authors' v1": (False, True)}


@pytest.mark.parametrize(
    ("layout", "motion", "given", "norms"),
    [
        ("AnimateDiff motion module", MOTION, None, "authors"),  # a file is of the code it is written for
        ("AnimateDiff motion module", V1, None, "authors' v1"),
        ("AnimateDiff motion module", V1, "diffusers", "diffusers"),
        ("diffusers MotionAdapter", V1, None, "diffusers"),
        ("diffusers MotionAdapter", V1, "authors", "authors' v1"),
        ("diffusers MotionAdapter", MOTION, "authors", "authors"),
    ],
)
def test_motion_modules_norm_as_the_code_of_their_layout_does_unless_it_is_said(
    layout: str, motion: MotionConfig, given: Any, norms: str, unet: UNet, randomised: Make, tmp_path: Path
) -> None:
    save_folder(unet, tmp_path / "unet")
    network = UNet(replace(SPATIAL, temporal=motion))
    save_file(public(BY_NAME[layout], modules(network)), tmp_path / "mm.safetensors")
    loaded = load_unet(tmp_path / "unet", motion=tmp_path / "mm.safetensors", motion_norm=given)
    joint, of_resnets = NORMS[norms]
    assert loaded.config.temporal == replace(motion, joint_norm=joint, joint_resnet_norm=of_resnets)


def test_whose_norms_is_said_of_motion_modules_alone_and_is_one_of_two(unet: UNet, video: UNet, tmp_path: Path) -> None:
    save_folder(unet, tmp_path / "unet")
    with pytest.raises(ValueError, match=r"motion_norm='authors', but .* has no motion modules"):
        load_unet(tmp_path / "unet", motion_norm="authors")
    save_folder(video, tmp_path / "video")
    assert not load_unet(tmp_path / "video", motion_norm="authors").config.temporal.joint_norm
    with pytest.raises(ValueError, match=r"motion_norm='mine': expected authors or diffusers"):
        load_unet(tmp_path / "video", motion_norm="mine")


def test_motion_modules_of_other_widths_and_incomplete_ones_are_refused(
    unet: UNet, video: UNet, randomised: Make, tmp_path: Path
) -> None:
    save_folder(unet, tmp_path / "unet")
    wider = UNet(replace(SPATIAL, block_out_channels=(16, 16), temporal=MOTION))
    save_file(modules(wider), tmp_path / "wider.safetensors")
    with pytest.raises(StateError, match=r"wider\.safetensors does not fit the UNet of .*bias is \(16,\), expected"):
        load_unet(tmp_path / "unet", motion=tmp_path / "wider.safetensors")
    state = modules(video)
    del state["up_blocks.0.motion_modules.1.proj_in.bias"]
    save_file(state, tmp_path / "less.safetensors")
    with pytest.raises(StateError, match=r"less\.safetensors does not .*missing up_blocks\.0\.motion_modules\.1\.proj"):
        load_unet(tmp_path / "unet", motion=tmp_path / "less.safetensors")
    save_folder(video, tmp_path / "video")
    with pytest.raises(ValueError, match=r"has motion modules of its own: leave motion out"):
        load_unet(tmp_path / "video", motion=tmp_path / "less.safetensors")
    with pytest.raises(LayoutError, match=r"it holds no motion, but a unet \(diffusers UNet\)"):
        load_unet(tmp_path / "unet", motion=tmp_path / "unet" / "diffusion_pytorch_model.safetensors")


@pytest.mark.parametrize("layout", ["AnimateDiff motion module", "diffusers MotionAdapter"])
def test_motion_modules_without_position_tables_are_given_their_constants(
    layout: str, unet: UNet, video: UNet, tmp_path: Path
) -> None:
    """AnimateLCM's file leaves them out; its code has them for 64 frames. A file with some of them is damaged."""
    save_folder(unet, tmp_path / "unet")
    state = public(BY_NAME[layout], modules(video))
    tables = [key for key in state if key.endswith(".pe")]
    save_file({key: value for key, value in state.items() if key not in tables}, tmp_path / "lcm.safetensors")
    loaded = load_unet(tmp_path / "unet", motion=tmp_path / "lcm.safetensors", dtype=torch.float64)
    joint = layout == "diffusers MotionAdapter"
    assert loaded.config.temporal == replace(MOTION, max_frames=64, joint_norm=joint)
    known = {key: value for key, value in video.state_dict().items() if not key.endswith(".pe")}
    computed = {key: value for key, value in loaded.state_dict().items() if key not in known}
    assert same(loaded, {key: value.double() for key, value in known.items()} | computed)
    assert len(computed) == sum(key.endswith(".pe") for key in modules(video))
    for table in computed.values():
        position, pair = torch.arange(64.0)[:, None], torch.arange(table.shape[2] // 2)
        angle = position / 10000 ** (2 * pair / table.shape[2])
        assert (table[0, :, 0::2] - angle.sin()).abs().max() < 1e-5  # float32's rounding of an angle up to 63
        assert (table[0, :, 1::2] - angle.cos()).abs().max() < 1e-5
    (part,) = inspect(tmp_path / "lcm.safetensors").parts
    assert not [problem for problem in part.problems if ".pe" in problem]
    del state[tables[0]]
    if layout == "AnimateDiff motion module":
        del state[tables[1]]  # the same table
    save_file(state, tmp_path / "damaged.safetensors")
    with pytest.raises(ValueError, match=r"damaged\.safetensors"):
        load_unet(tmp_path / "unet", motion=tmp_path / "damaged.safetensors")


@pytest.mark.parametrize(("key", "kind"), [("conv_in.weight", "PIA"), ("img_encoder.a.weight", "AnimateLCM-I2V")])
def test_motion_modules_that_continue_an_image_are_refused_by_name(
    key: str, kind: str, unet: UNet, video: UNet, tmp_path: Path
) -> None:
    save_folder(unet, tmp_path / "unet")
    state = public(BY_NAME["AnimateDiff motion module"], modules(video)) | {key: torch.zeros(1)}
    save_file(state, tmp_path / "mm.safetensors")
    with pytest.raises(LayoutError, match=rf"mm\.safetensors: its .* motion modules of {kind}, .*: not supported"):
        load_unet(tmp_path / "unet", motion=tmp_path / "mm.safetensors")


def test_two_position_tables_that_differ_are_no_motion_module(unet: UNet, video: UNet, tmp_path: Path) -> None:
    save_folder(unet, tmp_path / "unet")
    state = public(BY_NAME["AnimateDiff motion module"], modules(video))
    key = next(key for key in state if "attention_blocks.1.pos_encoder" in key)
    state[key] += 1
    save_file(state, tmp_path / "mm.safetensors")
    with pytest.raises(LayoutError, match=r"mm\.safetensors: .*pos_encoder\.pe' is another tensor than its twin"):
        load_unet(tmp_path / "unet", motion=tmp_path / "mm.safetensors")


# --- configs told by shapes -----------------------------------------------------------------------------------------


def test_a_single_file_needs_no_config_if_its_sizes_are_public_ones(
    randomised: Make, tmp_path: Path
) -> None:
    config = UNetConfig(block_out_channels=(32, 64), attention_levels=(True, False))
    unet = randomised(UNet(config), dtype=torch.float16)
    vae = randomised(VAE(VAEConfig(block_out_channels=(32, 32, 32, 64))), dtype=torch.float16)
    sizes = {"vocab_size": 20, "intermediate_size": 16, "num_hidden_layers": 1, "max_position_embeddings": 7}
    text = randomised(CLIPText(CLIPTextConfig(**sizes)), dtype=torch.float16)  # type: ignore[arg-type]
    save_file(single_file(unet, vae, text), tmp_path / "a.safetensors")
    for load, network in ((load_unet, unet), (load_vae, vae), (load_text_encoder, text)):
        loaded = load(tmp_path / "a.safetensors")
        assert loaded.config == network.config
        assert same(loaded, network.state_dict())


def test_sizes_that_do_not_tell_the_config_ask_for_one(unet: UNet, vae: VAE, text: CLIPText, tmp_path: Path) -> None:
    save_file(single_file(unet, vae, text), tmp_path / "a.safetensors")
    for load, reason in (
        (load_unet, r"levels of \(8, 16\) channels.*give config=, a UNetConfig"),
        (load_vae, r"levels of \(4, 4, 8, 8\) channels.*give config=, a VAEConfig"),
        (load_text_encoder, r"a text encoder of 8 channels.*give config=, a CLIPTextConfig"),
    ):
        with pytest.raises(ValueError, match=rf"a\.safetensors does not tell its config \({reason}"):
            load(tmp_path / "a.safetensors")


def test_a_config_that_the_weights_contradict_is_refused(unet: UNet, tmp_path: Path) -> None:
    save_file(unet.state_dict(), tmp_path / "a.safetensors")
    with pytest.raises(StateError, match=r"does not fit UNet: .*expected \(16, 20\)"):
        load_unet(tmp_path / "a.safetensors", config=replace(SPATIAL, cross_attention_dim=20))
    with pytest.raises(ValueError, match=r"config of .* describes no UNet: channels=8 is not a multiple of heads=3"):
        load_unet(tmp_path / "a.safetensors", config=replace(SPATIAL, num_attention_heads=3))


# --- folders and variants -------------------------------------------------------------------------------------------

WEIGHTS = "diffusion_pytorch_model.safetensors"


def test_a_pipeline_s_folder_is_entered(unet: UNet, vae: VAE, text: CLIPText, tmp_path: Path) -> None:
    for name, network in {"unet": unet, "vae": vae, "text_encoder": text}.items():
        save_folder(network, tmp_path / name)
    (tmp_path / "model_index.json").write_text("{}")
    assert same(load_unet(tmp_path), unet.state_dict())
    assert same(load_vae(str(tmp_path)), vae.state_dict())
    assert same(load_text_encoder(tmp_path), text.state_dict())


def test_a_variant_is_a_file_name_and_the_dtype_is_in_the_tensors(vae: VAE, tmp_path: Path) -> None:
    save_folder(vae, tmp_path)
    half = {key: value.half() for key, value in vae.state_dict().items()}
    save_file(half, tmp_path / "diffusion_pytorch_model.fp16.safetensors")
    assert same(load_vae(tmp_path), vae.state_dict())
    assert same(load_vae(tmp_path, variant="fp16"), half)
    save_file(vae.state_dict(), tmp_path / "diffusion_pytorch_model.fp16.safetensors")  # as AnimateDiff's adapters are
    assert same(load_vae(tmp_path, variant="fp16"), vae.state_dict())
    (tmp_path / WEIGHTS).unlink()
    assert same(load_vae(tmp_path), vae.state_dict())  # there is no other
    save_file(half, tmp_path / "diffusion_pytorch_model.non_ema.safetensors")
    with pytest.raises(FileNotFoundError, match=r"no weight file for vae: .* are diffusion_pytorch_model\.fp16\."):
        load_vae(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no weight file for vae, variant bf16: expected .*\.bf16\."):
        load_vae(tmp_path, variant="bf16")


def test_safetensors_are_preferred_to_pickles(vae: VAE, randomised: Make, tmp_path: Path) -> None:
    save_folder(vae, tmp_path)
    torch.save(randomised(VAE(AUTOENCODER)).state_dict(), tmp_path / "diffusion_pytorch_model.bin")
    assert same(load_vae(tmp_path), vae.state_dict())
    torch.save(vae.state_dict(), tmp_path / "diffusion_pytorch_model.bin")
    (tmp_path / WEIGHTS).unlink()
    assert same(load_vae(tmp_path), vae.state_dict())


@pytest.mark.parametrize(
    ("variant", "index", "shard"),
    [
        (None, f"{WEIGHTS}.index.json", "diffusion_pytorch_model-{}-of-00002.safetensors"),
        ("fp16", "diffusion_pytorch_model.safetensors.index.fp16.json",
         "diffusion_pytorch_model.fp16-{}-of-00002.safetensors"),
        (None, "diffusion_pytorch_model.bin.index.json", "diffusion_pytorch_model-{}-of-00002.bin"),
    ],
)  # fmt: skip
def test_shards_make_one_network(variant: str | None, index: str, shard: str, vae: VAE, tmp_path: Path) -> None:
    save_folder(vae, tmp_path)
    (tmp_path / WEIGHTS).unlink()
    state = vae.state_dict()
    where = {key: shard.format(f"0000{1 + k % 2}") for k, key in enumerate(state)}
    for name in set(where.values()):
        part = {key: state[key] for key in state if where[key] == name}
        save_file(part, tmp_path / name) if name.endswith(".safetensors") else torch.save(part, tmp_path / name)
    (tmp_path / index).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": where}))
    assert same(load_vae(tmp_path, variant=variant), state)


def test_a_config_given_needs_no_config_json(vae: VAE, tmp_path: Path) -> None:
    save_folder(vae, tmp_path)
    (tmp_path / "config.json").write_text("not read")
    assert same(load_vae(tmp_path, config=AUTOENCODER), vae.state_dict())
    (tmp_path / "config.json").unlink()
    assert same(load_vae(tmp_path, config=AUTOENCODER), vae.state_dict())


# --- dtypes, memory, wholeness --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_are_as_stored_or_as_asked_for(dtype: torch.dtype, vae: VAE, tmp_path: Path) -> None:
    stored = {key: value.to(dtype) for key, value in vae.state_dict().items()}
    save_file(stored, tmp_path / "a.safetensors")
    assert same(load_vae(tmp_path / "a.safetensors", config=AUTOENCODER), stored)
    single = {key: value.to(torch.float32) for key, value in stored.items()}
    assert same(load_vae(tmp_path / "a.safetensors", config=AUTOENCODER, dtype=torch.float32), single)


def test_two_stored_dtypes_ask_which_it_shall_be(unet: UNet, video: UNet, tmp_path: Path) -> None:
    save_folder(unet, tmp_path / "unet", torch.float16)
    save_file(modules(video), tmp_path / "mm.safetensors")
    with pytest.raises(ValueError, match=r"and .*mm\.safetensors: .* as torch\.float16 and torch\.float32: say"):
        load_unet(tmp_path / "unet", motion=tmp_path / "mm.safetensors")
    loaded = load_unet(tmp_path / "unet", motion=tmp_path / "mm.safetensors", dtype=torch.float16)
    assert {value.dtype for value in loaded.state_dict().values()} == {torch.float16}


def test_a_loaded_network_is_whole_frozen_and_in_evaluation_mode(unet: UNet, video: UNet, tmp_path: Path) -> None:
    save_folder(unet, tmp_path / "unet")
    save_file(modules(video), tmp_path / "mm.safetensors")
    loaded = load_unet(tmp_path / "unet", motion=tmp_path / "mm.safetensors")
    assert not loaded.training
    tensors = [*loaded.parameters(), *loaded.buffers()]
    assert not any(tensor.requires_grad or tensor.is_meta for tensor in tensors)


def mapped(network: nn.Module, file: Path) -> float:
    """The share of a network's tensors that lie where the file is mapped."""
    rows = (line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(file)))
    spans = [[int(end, 16) for end in row[0].split("-")] for row in rows]
    places = [parameter.data_ptr() for parameter in network.parameters()]
    return sum(any(begin <= place < end for begin, end in spans) for place in places) / len(places)


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="Linux says what is mapped")
@pytest.mark.parametrize("name", ["a.safetensors", "a.ckpt"])
def test_weights_as_stored_are_mapped_not_copied(name: str, vae: VAE, tmp_path: Path) -> None:
    state = public(BY_NAME["LDM VAE"], vae.state_dict(), convolutions=2)
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "a.ckpt")
    assert mapped(load_vae(tmp_path / name, config=AUTOENCODER), tmp_path / name) == 1
    assert mapped(load_vae(tmp_path / name, config=AUTOENCODER, dtype=torch.float64), tmp_path / name) == 0


def test_a_loaded_network_is_saved_in_the_layout_that_diffusers_reads(unet: UNet, tmp_path: Path) -> None:
    save_file(public(BY_NAME["LDM UNet"], unet.state_dict(), "model.diffusion_model.", 2), tmp_path / "a.safetensors")
    save_folder(load_unet(tmp_path / "a.safetensors", config=SPATIAL), tmp_path / "unet")
    assert json.loads((tmp_path / "unet" / "config.json").read_text())["use_linear_projection"] is True
    assert load_file(tmp_path / "unet" / WEIGHTS).keys() == unet.state_dict().keys()
    assert same(load_unet(tmp_path / "unet"), unet.state_dict())
