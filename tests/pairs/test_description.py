"""Defaults that a pair takes from another, and how a wrong one is told."""

import json
from pathlib import Path

import pytest

from ivmix.pairs.description import EMBEDDED, PUBLIC, describe
from ivmix.samplers.reading import sampling
from ivmix.samplers.samplers import SAMPLERS
from ivmix.solvers import GuidanceRamp


def folder(at: Path, defaults: dict) -> Path:
    raw = json.loads((EMBEDDED["sprites"] / "pair.json").read_text())
    (at / "pair.json").write_text(json.dumps(raw | {"defaults": defaults}))
    return at


def test_defaults_from_a_known_pair_are_its_own_but_for_what_is_said(tmp_path):
    base = describe("videocrafter2")[0]["defaults"]
    said = {"from": "videocrafter2", "why": "…", "negative_prompt": "soft", "ddim": {"steps": 8}}
    found = describe(folder(tmp_path, said))[0]["defaults"]
    assert found == base | {"negative_prompt": "soft", "ddim": base["ddim"] | {"steps": 8}}
    assert list(found) == list(base)


def test_defaults_of_every_sampler_are_of_those_that_run_the_video_model_and_have_the_option(tmp_path):
    base = describe("animatediff")[0]["defaults"]
    every = {"steps": 4, "guidance": 1.0, "solver": "euler"}
    said = {"from": "animatediff", "every": every, "turns": {"steps": 8}}
    found = describe(folder(tmp_path, said))[0]["defaults"]
    assert found["image"] == base["image"]
    assert found["composite"] == base["composite"] | every
    assert found["official"] == base["official"] | {"steps": 4, "guidance": 1.0}  # which has no solver
    assert found["cfgpp"] == base["cfgpp"] | {"steps": 4, "solver": "euler"}  # nor this guidance
    assert found["turns"] == base["turns"] | every | {"steps": 8}
    assert found.keys() == base.keys()


@pytest.mark.parametrize(("pair", "steps", "guidance"), [("animatelcm", 6, 1.5), ("animatediff-lightning", 4, 1.0)])
def test_no_sampler_guides_a_distilled_video_model_or_has_it_take_many_steps_by_default(pair, steps, guidance):
    """Guidance is in the model already: every scale of its direction is its own, in the limit too."""
    defaults = describe(pair)[0]["defaults"]
    for name, kind in SAMPLERS.items():
        options = sampling(defaults, {"sampler": name})
        if "video" not in kind.models:
            continue
        assert getattr(options, "guidance", guidance) == guidance, name
        assert "V" not in getattr(options, "pattern", ""), name
        if name == "official":
            assert options.video_guidance == GuidanceRamp(0.0)
        if name != "turns":
            taken = options.refining_steps if name == "videoelevator" else options.steps
            assert taken == steps, name


def test_every_known_pair_has_whole_defaults_for_every_sampler():
    for name in (*EMBEDDED, *PUBLIC):
        defaults = describe(name)[0]["defaults"]
        assert set(defaults) == {"sampler", "negative_prompt", *SAMPLERS}
        assert [sampling(defaults, {"sampler": sampler}).name for sampler in SAMPLERS] == list(SAMPLERS)


def test_what_public_pairs_do_otherwise_is_what_their_files_say():
    """The paper's scales, and each authors' own loop."""
    found = {name: describe(name)[0]["defaults"] for name in PUBLIC}
    assert found["animatediff-paper"] == found["animatediff"]
    assert {name: d["zigzag"]["guidance"] for name, d in found.items()} == {
        "animatediff": 7.5, "animatediff-paper": 7.5, "latte": 7.5, "modelscope": 7.5, "videocrafter2": 9.0,
        "animatelcm": 1.5, "animatediff-lightning": 1.0, "animatediff-sdxl": 8.5, "hotshot-xl": 5.0,
    }  # fmt: skip
    assert {d["zigzag"]["image_guidance"] for d in found.values()} == {"4"}
    own = {"latte": "4.5", "animatediff-sdxl": "5", "hotshot-xl": "5"}
    assert {name: d["image"]["image_guidance"] for name, d in found.items()} == dict.fromkeys(PUBLIC, "7.5") | own
    for name, own_scale in (("animatediff-sdxl", 8.5), ("hotshot-xl", 5.0)):  # wherever Stable Diffusion 1.5's would be
        scales = [(d.get("guidance"), d.get("image_guidance")) for d in found[name].values() if isinstance(d, dict)]
        assert not any(guidance == 7.5 or image == "7.5" for guidance, image in scales)
        assert found[name]["ddim"] == found["animatediff"]["ddim"] | {"guidance": own_scale}
    assert found["modelscope"]["official"]["variant"] == "modelscope"
    assert found["videocrafter2"]["zsampling"]["guidance"] == 5.5
    assert (found["animatelcm"]["sampler"], found["animatelcm"]["lcm"]["steps"]) == ("lcm", 6)
    assert found["animatediff-lightning"]["sampler"] == "ddim"
    assert found["animatediff-lightning"]["ddim"] == {"steps": 4, "guidance": 1.0, "solver": "euler"}


@pytest.mark.parametrize(
    ("defaults", "message"),
    [
        ({"from": "spirits"}, "defaults: from is 'spirits', expected one of sprites, .*videocrafter2$"),
        ({"from": {}}, r"defaults: from is \{\}, expected one of"),
        ({"from": "sprites", "why": {}}, r"defaults: why is \{\}, expected text"),
        ({"from": "sprites", "every": "few"}, "defaults: every is 'few', expected an object"),
        ({"from": "sprites", "every": {"step": 4}}, "defaults: every: unknown entry 'step'; did you mean 'steps'"),
        ({"from": "sprites", "every": {"steps": 0}}, "defaults: steps=0"),
        ({"every": {"steps": 4}}, "defaults: every is of the pair that they are from, and they are from none"),
        ({"from": "sprites", "ddim": "fast"}, "defaults: ddim is 'fast', expected an object"),
        ({"from": "sprites", "composite": {"step": 3}}, "defaults: .*'step'; did you mean 'steps'"),
        ({"from": "sprites", "zigzag": {"stepz": 1}}, "defaults: .*'stepz'; did you mean 'steps'"),
        ({"from": "sprites", "zagzig": {}}, "defaults: sampler 'zagzig': expected one of ddim"),
    ],
)
def test_defaults_that_cannot_be_are_told_in_one_line_with_their_file(tmp_path, defaults, message):
    with pytest.raises(ValueError, match=rf"pair\.json: {message}"):
        describe(folder(tmp_path, defaults))


def test_public_text_encoders_have_the_parameters_of_their_key_lists():
    """CLIP's ViT-L/14, or two of another training; ViT-H/14's 23 layers, or ViT-bigG/14, beside it; T5 XXL alone."""
    manifests = Path(__file__).parents[1] / "data" / "manifests"
    names = ("clip_l_text_transformers", "clip_h_text_transformers", "openclip_bigg_text_transformers",
             "t5_v1_1_xxl_encoder")  # fmt: skip
    large, huge, largest, t5 = (json.loads((manifests / f"{name}.json").read_text())["parameters"] for name in names)
    assert {name: describe(name)[0]["text_parameters"] for name in PUBLIC} == {
        "animatediff": large, "animatediff-lightning": large, "animatediff-paper": 2 * large, "animatelcm": large,
        "animatediff-sdxl": large + largest, "hotshot-xl": large + largest, "latte": t5,
        "modelscope": large + huge, "videocrafter2": large + huge,
    }  # fmt: skip


def test_files_whose_bytes_are_not_known_hold_as_many_numbers_as_their_key_lists():
    manifests = Path(__file__).parents[1] / "data" / "manifests"
    names = {"XL-2-512x512/transformer": "pixart_xl2_512_transformer", "text_encoder": "t5_v1_1_xxl_encoder",
             "Latte-1/transformer": "latte1_transformer", "vae": "sd15_vae_diffusers"}  # fmt: skip
    files = describe("latte")[0]["files"]
    assert len(files) == len(names)
    for source, known in files.items():
        (name,) = (name for end, name in names.items() if source.endswith(end))
        keys = json.loads((manifests / f"{name}.json").read_text())
        assert known["parameters"] == keys["parameters"], source
