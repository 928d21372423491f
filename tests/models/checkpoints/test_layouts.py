"""Every public key list through the tables: each key taken once, each weight of ours given once, and back again."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from public_configs import MODELSCOPE, SD21_BASE, SDXL_BASE, VIDEOCRAFTER2

from ivmix.models import (
    VAE,
    CLIPText,
    CLIPTextConfig,
    DiT,
    DiTConfig,
    MotionConfig,
    T5Config,
    T5Text,
    UNet,
    UNetConfig,
    VAEConfig,
)
from ivmix.models.checkpoints import configs
from ivmix.models.checkpoints.layouts import EXTRAS, LAYOUTS, THEIRS, Found, find, of_xl
from ivmix.models.checkpoints.rules import Layout, LayoutError, Rule, Template, numbers
from ivmix.models.meta import build, shapes_of

Shapes = dict[str, tuple[int, ...]]
Manifest = Callable[[str], tuple[Shapes, int]]

# manifest -> the part it is, its layout, and how many of its keys are dropped on purpose
PUBLIC = {
    "sd15_unet_diffusers": ("unet", "diffusers UNet", 0),
    "sd15_unet_ldm": ("unet", "LDM UNet", 0),
    "sd21_base_unet_diffusers": ("unet", "diffusers UNet", 0),
    "modelscope_unet3d_diffusers": ("unet", "diffusers UNet", 0),
    "modelscope_unet_orig": ("unet", "ModelScope UNet", 0),
    "videocrafter2_unet_diffusers": ("unet", "diffusers UNet", 0),
    "videocrafter2_unet_orig": ("unet", "VideoCrafter2 UNet", 0),
    "latte1_transformer": ("transformer", "diffusers transformer", 0),
    "pixart_xl2_512_transformer": ("transformer", "diffusers transformer", 0),
    "sdxl_unet_diffusers": ("unet", "diffusers UNet", 0),
    "sdxl_unet_ldm": ("unet", "LDM UNet", 0),
    "animatediff_v1_orig": ("motion", "AnimateDiff motion module", 0),
    "animatediff_v2_orig": ("motion", "AnimateDiff motion module", 0),
    "animatediff_v3_orig": ("motion", "AnimateDiff motion module", 0),
    "animatediff_v2_adapter_diffusers": ("motion", "diffusers MotionAdapter", 0),
    "animatediff_v3_adapter_diffusers": ("motion", "diffusers MotionAdapter", 0),
    "animatediff_sdxl_beta_orig": ("motion", "AnimateDiff motion module", 0),
    "animatediff_sdxl_beta_adapter_diffusers": ("motion", "diffusers MotionAdapter", 0),
    "hotshot_xl_orig": ("motion", "Hotshot-XL motion module", 0),
    "sd15_vae_diffusers": ("vae", "diffusers VAE", 0),
    "sd15_vae_diffusers_old": ("vae", "diffusers VAE, old names", 0),
    "sd15_vae_ldm": ("vae", "LDM VAE", 0),
    "clip_l_text_transformers": ("text_encoder", "transformers text", 1),
    "clip_l_text_ldm": ("text_encoder", "transformers text", 1),
    "clip_h_text_transformers": ("text_encoder", "transformers text", 1),
    "clip_h_text_openclip": ("text_encoder", "open_clip text", 14),
    "t5_v1_1_xxl_encoder": ("text_encoder", "T5 text", 0),
    "openclip_bigg_text_transformers": ("text_encoder_2", "transformers text, projected", 0),
    "openclip_bigg_text_openclip": ("text_encoder_2", "open_clip text, projected", 1),
    "i3d_kinetics400": ("i3d", "I3D", 57),
    "videomae_g_ssv2": ("videomae", "VideoMAE-v2", 2),
    "umt_l16": ("umt", "UMT", 2),
}
# two layouts of one public network
SAME = [
    ("sd15_unet_ldm", "sd15_unet_diffusers"),
    ("sd15_vae_ldm", "sd15_vae_diffusers"),
    ("sd15_vae_diffusers_old", "sd15_vae_diffusers"),
    ("clip_l_text_ldm", "clip_l_text_transformers"),
    ("clip_h_text_openclip", "clip_h_text_transformers"),
    ("sdxl_unet_ldm", "sdxl_unet_diffusers"),
    ("openclip_bigg_text_openclip", "openclip_bigg_text_transformers"),
    ("animatediff_sdxl_beta_orig", "animatediff_sdxl_beta_adapter_diffusers"),
    ("modelscope_unet_orig", "modelscope_unet3d_diffusers"),
    ("videocrafter2_unet_orig", "videocrafter2_unet_diffusers"),
    ("animatediff_v2_orig", "animatediff_v2_adapter_diffusers"),
    ("animatediff_v3_orig", "animatediff_v3_adapter_diffusers"),
]
VIT_H = CLIPTextConfig(
    hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16, hidden_act="gelu"
)
VIT_BIGG = CLIPTextConfig(
    hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20, hidden_act="gelu",
    projection_dim=1280,
)  # fmt: skip
NETWORKS: dict[str, tuple[Any, Any]] = {
    "sd15_unet_ldm": (UNet, UNetConfig()),
    "sd15_unet_diffusers": (UNet, UNetConfig()),
    "sd21_base_unet_diffusers": (UNet, SD21_BASE),
    "modelscope_unet_orig": (UNet, MODELSCOPE),
    "modelscope_unet3d_diffusers": (UNet, MODELSCOPE),
    "videocrafter2_unet_orig": (UNet, VIDEOCRAFTER2),
    "videocrafter2_unet_diffusers": (UNet, VIDEOCRAFTER2),
    "latte1_transformer": (DiT, DiTConfig(temporal=16)),
    "pixart_xl2_512_transformer": (DiT, DiTConfig()),
    "sdxl_unet_diffusers": (UNet, SDXL_BASE),
    "sdxl_unet_ldm": (UNet, SDXL_BASE),
    "sd15_vae_ldm": (VAE, VAEConfig()),
    "sd15_vae_diffusers": (VAE, VAEConfig()),
    "sd15_vae_diffusers_old": (VAE, VAEConfig()),
    "clip_l_text_ldm": (CLIPText, CLIPTextConfig()),
    "clip_l_text_transformers": (CLIPText, CLIPTextConfig()),
    "clip_h_text_openclip": (CLIPText, VIT_H),
    "clip_h_text_transformers": (CLIPText, VIT_H),
    "t5_v1_1_xxl_encoder": (T5Text, T5Config()),
    "openclip_bigg_text_transformers": (CLIPText, VIT_BIGG),
    "openclip_bigg_text_openclip": (CLIPText, VIT_BIGG),
    "animatediff_v1_orig": (UNet, UNetConfig(temporal=MotionConfig(max_frames=24))),
    "animatediff_v2_orig": (UNet, UNetConfig(temporal=MotionConfig(mid_block=True))),
    "animatediff_v2_adapter_diffusers": (UNet, UNetConfig(temporal=MotionConfig(mid_block=True))),
    "animatediff_v3_orig": (UNet, UNetConfig(temporal=MotionConfig())),
    "animatediff_v3_adapter_diffusers": (UNet, UNetConfig(temporal=MotionConfig())),
    "animatediff_sdxl_beta_orig": (UNet, replace(SDXL_BASE, temporal=MotionConfig())),
    "animatediff_sdxl_beta_adapter_diffusers": (UNet, replace(SDXL_BASE, temporal=MotionConfig())),
    "hotshot_xl_orig": (UNet, replace(SDXL_BASE, temporal=MotionConfig(max_frames=24))),
}


@cache
def wanted(network: Any, config: Any) -> Shapes:
    return shapes_of(build(network, config))


@cache
def _converted(items: tuple[tuple[str, tuple[int, ...]], ...], wanted: str) -> tuple[Found, Shapes]:
    (found,) = find(dict(items), wanted=wanted).values()
    state = {key: torch.empty(shape, device="meta") for key, shape in items}
    return found, {key: tuple(tensor.shape) for key, tensor in found.take(state).items()}


def converted(shapes: Shapes, part: str = "") -> tuple[Found, Shapes]:
    return _converted(tuple(shapes.items()), part)


@pytest.mark.parametrize("name", PUBLIC)
def test_each_key_of_a_public_file_is_taken_by_one_rule_or_dropped_by_name(name: str, manifest: Manifest) -> None:
    shapes, published = manifest(name)
    part, layout, dropped = PUBLIC[name]
    found, ours = converted(shapes, part)
    assert (found.layout.part, found.layout.name, found.keys) == (part, layout, tuple(shapes))
    names = [found.layout.names(key.removeprefix(found.prefix)) for key in shapes]
    assert sum(not these for these in names) == dropped
    # Nothing of ours is filled twice, but for the position table that AnimateDiff stores with both attentions, and T5's
    # embeddings, under the names of both of its halves.
    twice = {key for key, count in Counter(key for these in names for key in these).items() if count > 1}
    assert all(key.endswith("pos_embed.pe") for key in twice - {"shared.weight"})
    if layout in THEIRS:
        assert 2 * len(twice) == sum("pos_encoder" in key for key in shapes)
    if not dropped:
        numbers = {key: torch.Size(shape).numel() for key, shape in ours.items() if not key.endswith(".pe")}
        assert sum(numbers.values()) == published


@pytest.mark.parametrize(
    ("names", "xl"),
    [
        (("sdxl_unet_ldm", "sd15_vae_ldm"), True),  # merges without text encoders
        (("openclip_bigg_text_openclip", "sd15_vae_ldm"), True),
        (("sdxl_unet_ldm", "clip_l_text_ldm", "openclip_bigg_text_openclip", "sd15_vae_ldm"), True),
        (("sd15_unet_ldm", "clip_l_text_ldm", "sd15_vae_ldm"), False),
        (("sd15_vae_ldm",), False),
    ],
)
def test_an_sdxl_file_is_known_by_its_unet_or_its_second_encoder(
    names: tuple[str, ...], xl: bool, manifest: Manifest
) -> None:
    assert of_xl(find([key for name in names for key in manifest(name)[0]])) == xl


@pytest.mark.parametrize("name", NETWORKS)
def test_a_public_file_gives_every_weight_of_our_network_its_shape(name: str, manifest: Manifest) -> None:
    shapes, _ = manifest(name)
    found, ours = converted(shapes, PUBLIC[name][0])
    of_motion = found.layout.part == "motion"
    assert ours == {k: s for k, s in wanted(*NETWORKS[name]).items() if ".motion_modules." in k or not of_motion}


@pytest.mark.parametrize("name", sorted(NETWORKS.keys() - {"pixart_xl2_512_transformer"}))
def test_the_config_is_told_by_the_shapes_alone(name: str, manifest: Manifest) -> None:
    found, ours = converted(manifest(name)[0], PUBLIC[name][0])
    tell: dict[Any, Callable[[Shapes], Any]] = {
        "unet": configs.unet, "transformer": configs.dit, "motion": configs.around, "vae": configs.vae,
        "text_encoder": configs.text, "text_encoder_2": configs.text, **configs.TELL,
    }  # fmt: skip
    told, (_, config) = tell[found.layout.config or found.layout.part](ours), NETWORKS[name]
    assert (told.temporal, told.block_out_channels) == (config.temporal, config.block_out_channels) \
        if found.layout.part == "motion" else told == config


def test_a_transformer_of_images_does_not_tell_their_size(manifest: Manifest) -> None:
    """PixArt-alpha's at 256x256 has the same shapes, and other positions."""
    with pytest.raises(ValueError, match=r"^no weight tells the size of the images"):
        configs.dit(converted(manifest("pixart_xl2_512_transformer")[0])[1])


@pytest.mark.parametrize(("other", "diffusers"), SAME)
def test_two_layouts_of_one_network_become_the_same_weights(other: str, diffusers: str, manifest: Manifest) -> None:
    part = PUBLIC[other][0]
    assert converted(manifest(other)[0], part)[1] == converted(manifest(diffusers)[0], part)[1]


@pytest.mark.parametrize("name", PUBLIC)
def test_the_way_back_gives_the_public_keys(name: str, manifest: Manifest) -> None:
    shapes, _ = manifest(name)
    found, ours = converted(shapes, PUBLIC[name][0])
    keys = {key.removeprefix(found.prefix) for key in shapes}
    dropped = {key for key in keys if not found.layout.names(key)}
    back = {source for key in ours for source in found.layout.sources(key)}
    # An upsampler stands after one, two or three other layers: the table knows the three places.
    extra = {key for key in back - keys if ".conv." in key and key.startswith("output_blocks.")}
    assert back - extra == keys - dropped
    for key in ours:
        for source in found.layout.sources(key):
            assert key in found.layout.names(source)


def test_every_rule_is_needed_by_a_public_file(manifest: Manifest) -> None:
    used = set[Rule]()
    for name in PUBLIC:
        shapes, _ = manifest(name)
        found, _ = converted(shapes, PUBLIC[name][0])
        for key in found.keys:
            hit = found.layout.look_up(key.removeprefix(found.prefix))
            assert hit is not None
            used.add(hit[0])
    rules = {rule for layout in LAYOUTS if layout.name != "transformers text, no prefix" for rule in layout.rules}
    # In files whose key lists are not at hand: training leftovers of a VAE, the rest of a whole CLIP.
    clip = {"{input_resolution|context_length|vocab_size}", "visual.{rest}", "vision_model.{rest}",
            "{text|visual}_projection.weight"}  # fmt: skip
    t5 = {"{decoder|lm_head}.{rest}"}  # the rest of a whole T5
    dit = {"caption_projection.y_embedding",  # PixArt's no caption; its models that are told sizes, to be refused
           "adaln_single.emb.{resolution_embedder|aspect_ratio_embedder}.linear_{1|2}.{weight|bias}"}  # fmt: skip
    assert {rule.source for rule in rules - used} == {"loss.{rest}"} | clip | t5 | dit


def test_no_key_of_one_layout_is_read_as_another_s(manifest: Manifest) -> None:
    for name in PUBLIC:
        shapes, _ = manifest(name)
        found, _ = converted(shapes, PUBLIC[name][0])
        keys = {key.removeprefix(found.prefix) for key in shapes}
        anchored = [layout for layout in LAYOUTS if layout.anchor in keys]
        assert found.layout in anchored
        assert len({layout.part for layout in anchored}) == len(anchored)  # which text encoder is said by who asks
        assert {layout.part.removesuffix("_2") for layout in anchored} == {found.layout.part.removesuffix("_2")}


def test_a_text_encoder_without_text_model_is_the_same_one(manifest: Manifest) -> None:
    shapes, _ = manifest("clip_l_text_transformers")
    bare = {key.removeprefix("text_model."): shape for key, shape in shapes.items()}
    found, ours = converted(bare)
    assert found.layout.name == "transformers text, no prefix"
    assert ours == converted(shapes)[1]


# --- files of several parts -----------------------------------------------------------------------------------------


def single_file(manifest: Manifest, *names: str) -> Shapes:
    return {key: shape for name in names for key, shape in manifest(name)[0].items()}


SD15 = ("sd15_unet_ldm", "sd15_vae_ldm", "clip_l_text_ldm", "sd15_ldm_extras")
VIDEOCRAFTER2 = ("videocrafter2_unet_orig", "sd15_vae_ldm", "clip_h_text_openclip", "videocrafter2_extras")
SDXL = ("sdxl_unet_ldm", "sd15_vae_ldm", "clip_l_text_ldm", "openclip_bigg_text_openclip")


@pytest.mark.parametrize(("names", "total", "dropped"), [(SD15, 1145, 14), (VIDEOCRAFTER2, 2039, 13)])
def test_a_single_file_holds_a_unet_a_vae_and_a_text_encoder(
    names: tuple[str, ...], total: int, dropped: int, manifest: Manifest
) -> None:
    shapes = single_file(manifest, *names)
    assert len(shapes) == total
    found = find(shapes)
    assert list(found) == ["unet", "vae", "text_encoder"]
    taken = {key for part in found.values() for key in part.keys}
    assert len(shapes.keys() - taken) == dropped
    for name in names[:3]:
        part, layout, _ = PUBLIC[name]
        assert found[part].layout.name == layout
        assert set(found[part].keys) == manifest(name)[0].keys()


def test_stable_diffusion_xls_single_file_holds_two_text_encoders(manifest: Manifest) -> None:
    """Tensors, bytes in float16 and ranks of sd_xl_base_1.0.safetensors, as its public header has them."""
    shapes = {
        key.replace("cond_stage_model.", "conditioner.embedders.0."): shape
        for key, shape in single_file(manifest, *SDXL).items()
    }
    assert len(shapes) == 2515
    assert 2 * sum(torch.Size(shape).numel() for shape in shapes.values()) == 6_937_675_890
    assert Counter(map(len, shapes.values())) == {0: 1, 1: 1442, 2: 949, 4: 123}
    found = find(shapes)
    assert {part: (one.layout.name, len(one.keys)) for part, one in found.items()} == {
        "unet": ("LDM UNet", 1680), "vae": ("LDM VAE", 248), "text_encoder": ("transformers text", 197),
        "text_encoder_2": ("open_clip text, projected", 390),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["sd15_ldm_extras", "videocrafter2_extras"])
def test_every_leftover_of_a_single_file_is_dropped_by_one_rule(name: str, manifest: Manifest) -> None:
    for key in manifest(name)[0]:
        assert [rule.targets(key) for rule in EXTRAS if rule.targets(key) is not None] == [[]]


def test_every_extra_is_needed_by_a_public_file(manifest: Manifest) -> None:
    keys = [*manifest("sd15_ldm_extras")[0], *manifest("videocrafter2_extras")[0]]
    unused = {rule.source for rule in EXTRAS if all(rule.targets(key) is None for key in keys)}
    assert unused == {  # merges, trainers, other programs
        "{control_model|adapter}.{rest}", "embedding_manager.{rest}", "denoiser.{sigmas|log_sigmas}", "logvar",
        "cond_stage_model.logit_scale", "{v_pred|ztsnr}",
    }  # fmt: skip


# --- what fits no layout --------------------------------------------------------------------------------------------


def test_an_unknown_key_names_itself_and_the_nearest_layout(manifest: Manifest) -> None:
    shapes = single_file(manifest, *SD15) | {"model.diffusion_model.extra.weight": (1,)}
    with pytest.raises(LayoutError, match=r"^nearest layout LDM UNet, which knows 686 of 687 keys, not: model\.dif"):
        find(shapes)
    shapes = single_file(manifest, *SD15) | {"stranger": (1,)}
    with pytest.raises(LayoutError, match=r"file of several parts, which knows 1145 of 1146 keys, not: stranger"):
        find(shapes)


def test_a_list_cut_short_says_which_key_would_tell_it(manifest: Manifest) -> None:
    shapes, _ = manifest("modelscope_unet_orig")
    del shapes["input_blocks.0.1.norm.weight"]
    with pytest.raises(LayoutError, match=r"ModelScope UNet, but the key 'input_blocks.0.1.norm.weight' is miss"):
        find(shapes)


def test_nothing_has_no_parts() -> None:
    assert find([]) == {}


def test_two_text_encoders_in_one_file_are_not_guessed_between(manifest: Manifest) -> None:
    with pytest.raises(LayoutError, match="two parts are a text_encoder"):
        find(single_file(manifest, *SD15, "clip_h_text_openclip"))


# --- the parts of the tables ----------------------------------------------------------------------------------------


def test_formulas_are_the_published_index_tables() -> None:
    assert numbers("1+3i+j")["8"] == {"i": 2, "j": 1}
    assert numbers("3i+j")["11"] == {"i": 3, "j": 2}
    assert numbers("3+3i") == {"3": {"i": 0}, "6": {"i": 1}, "9": {"i": 2}, "12": {"i": 3}}
    assert numbers("3-i") == {"3": {"i": 0}, "2": {"i": 1}, "1": {"i": 2}, "0": {"i": 3}}


def test_a_template_matches_whole_keys_and_fills_what_it_read() -> None:
    template = Template("a.{1+3i+j}.{q|k}.{rest}")
    assert template.match("a.8.k.b.c") == {"i": 2, "j": 1, "q|k": "k", "rest": "b.c"}
    assert template.fill({"i": 2, "j": 1, "q|k": "k", "rest": "b.c"}) == "a.8.k.b.c"
    assert [template.match(key) for key in ("a.0.k.b", "a.13.k.b", "a.8.v.b", "xa.8.k.b", "a.8.k.")] == [None] * 5


def toy(*rules: Rule) -> Layout:
    return Layout("toy", "unet", "a", rules)


def test_two_rules_for_one_key_are_a_fault_of_the_table() -> None:
    with pytest.raises(AssertionError, match=r"'a.b' matches 2 rules of toy"):
        toy(Rule("a.{rest}", None), Rule("{rest}.b", None)).names("a.b")


def test_a_fused_tensor_is_cut_in_order_and_must_divide() -> None:
    layout = toy(Rule("qkv", "{q,k,v}_proj"))
    cut = layout.convert({"qkv": torch.arange(6)})
    assert {key: value.tolist() for key, value in cut.items()} == {"q_proj": [0, 1], "k_proj": [2, 3], "v_proj": [4, 5]}
    for wrong in (torch.zeros(7), torch.zeros(2), torch.zeros(())):
        with pytest.raises(LayoutError, match=r"'qkv' has shape .*: expected 3 equal parts"):
            layout.convert({"qkv": wrong})


def test_a_convolution_becomes_a_matrix_only_if_it_is_one() -> None:
    layout = toy(Rule("a", "b", linear=True))
    weight = torch.arange(6.0).reshape(3, 2)
    assert torch.equal(layout.convert({"a": weight[:, :, None, None]})["b"], weight)
    assert torch.equal(layout.convert({"a": weight[:, :, None]})["b"], weight)
    for kept in (weight, torch.zeros(3), torch.zeros(2, 2, 3, 1)):
        assert layout.convert({"a": kept})["b"].shape == kept.shape


def test_one_weight_stored_twice_must_have_one_value() -> None:
    layout = toy(Rule("{0|1}.pe", "pe"))
    one = torch.ones(2)
    assert layout.convert({"0.pe": one, "1.pe": one.clone()})["pe"] is one
    for other in (torch.zeros(2), torch.ones(3)):
        with pytest.raises(LayoutError, match=r"'1.pe' is another tensor than its twin: both are pe"):
            layout.convert({"0.pe": one, "1.pe": other})
