"""Fields made from declarations, and texts typed into them read into the calls that the command makes."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from ivmix.cli import main
from ivmix.demo.draw import BESIDE, arms, plain
from ivmix.demo.form import FACTS, OPTIONS, Form, default_form, default_options, options_of, recalled_form, write
from ivmix.demo.widgets import FIELDS, OWN, about, examples, explained, vocabulary
from ivmix.generation.record import Record, read_record
from ivmix.generation.text_to_video import TextToVideo
from ivmix.pairs.description import EMBEDDED, PUBLIC, describe
from ivmix.samplers.reading import sampling
from ivmix.samplers.samplers import SAMPLERS

RED = "a red circle moving left"
QUICK = {"frames": "2", "height": "16", "width": "16"}


@pytest.fixture(scope="module")
def model() -> TextToVideo:
    return TextToVideo.from_pair("sprites", "cpu")


def form(sampler: str | None = None, **facts: str) -> Form:
    own = default_form("sprites", RED, sampler=sampler)
    return Form({**own.facts, **facts}, own.options)


def with_option(one: Form, **options: str) -> Form:
    return replace(one, options={**one.options, **options})


def recorded(model: TextToVideo, one: Form) -> Record:
    return model.record(one.prompt, **one.call(), **one.sampling())


@pytest.fixture(scope="module")
def stored(model, tmp_path_factory) -> Path:
    """A record of `ivmix sample`, of options that are nobody's defaults."""
    path = tmp_path_factory.mktemp("stored") / "out.webp"
    given = ["--sampler", "zigzag", "--steps", "3", "--interval", "0:0.123456789", "--image-guidance", "2:0.5:3",
             "--seed", "7", "--frames", "2", "--size", "16x32", "--negative-prompt", "blue", "--quiet"]  # fmt: skip
    assert main(["sample", RED, "-o", str(path), "--device", "cpu", *given, "--image-negative-prompt", ""]) == 0
    return path.with_name("out.webp.json")


# --- fields ---------------------------------------------------------------------------------------------------------


def test_every_declared_option_has_a_field_and_every_sampler_shows_its_own_alone():
    assert [field.name for field in FIELDS] == list(OPTIONS)
    for name, kind in SAMPLERS.items():
        assert {option.name for option in options_of(name)} == {f.name for f in fields(kind)}


def test_an_option_with_choices_is_chosen_and_any_other_typed():
    for field in FIELDS:
        choices = OPTIONS[field.name].option.choices
        if choices is None:
            assert field.choices is None
        else:
            assert field.choices == ((OWN, ""), *((name, name) for name in choices))


def test_what_options_mean_is_their_declaration():
    for name in SAMPLERS:
        assert all(option.option.help in explained(name) for option in options_of(name))


@pytest.mark.parametrize("pair", [*EMBEDDED, *PUBLIC])
def test_a_pairs_defaults_are_filled_in_and_read_back_as_they_were(pair):
    defaults = describe(pair)[0]["defaults"]
    for name in defaults.keys() & SAMPLERS.keys():
        own = Form({**dict.fromkeys(FACTS, ""), "sampler": name}, default_options(defaults, name))
        assert sampling(defaults, own.sampling()) == sampling(defaults, {"sampler": name})


def test_a_closed_vocabulary_gives_words_and_examples_and_an_open_one_none():
    words = vocabulary("sprites")
    assert words is not None
    assert {"red", "circle", "left"} <= set(words)
    assert examples(words)
    assert {word for text in examples(words) for word in text.split()} <= set(words)
    assert vocabulary("animatediff") is None
    assert examples(None) == []


def test_a_public_pair_says_that_it_is_downloaded_and_the_embedded_one_does_not():
    assert "Hugging Face hub" in about("animatediff")
    assert "hub" not in about("sprites")


# --- calls ----------------------------------------------------------------------------------------------------------


def test_an_untouched_form_asks_for_what_the_command_does_by_default(model):
    assert recorded(model, form()).asks_as(model.record(RED))


def test_an_emptied_field_is_the_pairs_default(model):
    assert recorded(model, with_option(form(), steps=" ")).asks_as(model.record(RED))


def test_options_of_other_samplers_are_not_asked_for(model):
    assert recorded(model, with_option(form("ddim"), image_weight="nonsense")).sampling["sampler"] == "ddim"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"seed": "1.5"}, r"seed '1.5': expected a whole number"),
        ({"seed": ""}, r"seed is empty: expected a whole number"),
        ({"frames": "many"}, r"frames 'many': expected a whole number"),
        ({"frames": "0"}, r"frames=0: expected a whole number of 1 or more"),
        ({"height": "17"}, r"height=17: expected a positive multiple"),
        ({"prompt": ""}, r"the prompt is empty"),
        ({"prompt": "a purple circle moving left"}, r"words outside the vocabulary: 'purple'"),
    ],
)
def test_what_cannot_be_is_an_error_that_names_the_field(model, given, said):
    with pytest.raises(ValueError, match=said):
        recorded(model, form(**given))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"steps": "2.5"}, r"steps '2.5': expected a whole number"),
        ({"guidance": "strong"}, r"guidance 'strong': expected a number"),
        ({"guidance": "nan"}, r"guidance=nan: expected a finite number"),
        ({"interval": "0.5"}, r"interval=0.5: expected A:B"),
        ({"pattern": "IV"}, r"pattern"),
    ],
)
def test_what_an_option_cannot_be_is_an_error_that_names_it(model, given, said):
    with pytest.raises(ValueError, match=said):
        recorded(model, with_option(form(), **given))


def test_the_sampler_chosen_is_compared_as_it_is_set_and_the_others_at_the_pairs_defaults():
    compared = {arm.label: arm.options for arm in arms(with_option(form("mixture"), image_weight="0.25"))}
    assert list(compared) == [*BESIDE, "mixture"]
    assert compared["mixture"]["image_weight"] == 0.25
    assert all(compared[name] == {"sampler": name} for name in BESIDE)
    changed = {arm.label: arm.options for arm in arms(with_option(form("zigzag"), steps="7"))}
    assert list(changed) == list(BESIDE)
    assert changed["zigzag"]["steps"] == 7


def test_windows_over_frames_and_their_noise_are_not_asked_of_the_image_model_alone():
    call = form(frames="18", window="6", space_window="16", noise="freenoise").call()
    kept = {arm.label: call.keys() - plain(call, arm).keys() for arm in arms(form())}
    assert kept.pop("image") == {"window", "overlap", "noise"}
    assert not any(kept.values())


# --- records --------------------------------------------------------------------------------------------------------


def test_a_record_fills_in_all_fields_so_that_the_same_is_asked_for(model, stored):
    recalled, record = recalled_form(stored)
    assert recalled.facts["negative_prompt"] == "blue"
    assert recalled.facts["image_negative_prompt"] == ""
    assert recalled.options["interval"] == "0:0.123456789"
    assert recorded(model, recalled).asks_as(record)
    assert record.asks_as(read_record(stored))


def test_a_record_of_a_long_clip_fills_in_its_windows(model, stored, tmp_path):
    path = tmp_path / "long.json"
    path.write_text(json.dumps(json.loads(stored.read_text()) | {"frames": 18, "window": 6, "overlap": 1}))
    recalled, record = recalled_form(path)
    assert (recalled.facts["window"], recalled.facts["overlap"]) == ("6", "1")
    assert recorded(model, recalled).asks_as(record)
    more = {"space_window": 16, "noise": "freenoise"}
    path.write_text(json.dumps(json.loads(path.read_text()) | more))
    recalled, record = recalled_form(path)
    assert (recalled.facts["space_window"], recalled.facts["noise"]) == ("16", "freenoise")
    assert recorded(model, recalled).asks_as(record)
    assert (record.space_window, record.noise) == (16, "freenoise")
    unasked = recorded(model, form(frames="18"))  # what the page draws by itself can be recalled, too
    assert (unasked.window, unasked.overlap) == (8, 4)
    with pytest.raises(ValueError, match="window 'wide': expected a whole number"):
        form(window="wide").call()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"vae_tile": 8}, "the record has vae_tile, for which this page has no field"),
        ({"raw_prompts": True}, "the record has raw_prompts, for which"),
        ({"strength": 0.5, "video": {"path": "soft.mp4", "sha256": "0"}}, "the record has video, strength, for which"),
        ({"latents": {"path": None, "sha256": "0"}}, "noise given in Python"),
    ],
)
def test_a_record_of_what_the_page_has_no_field_for_is_refused(stored, tmp_path, changed, said):
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(json.loads(stored.read_text()) | changed))
    with pytest.raises(ValueError, match=said):
        recalled_form(path)


@pytest.mark.parametrize("value", [0.1 + 0.2, 1e-9, 3.0, 12, "dpm++2m"])
def test_what_a_field_shows_is_read_back_exactly(value):
    assert type(value)(write(value)) == value
    assert write((value, 1 / 3)) == f"{write(value)}:0.3333333333333333"
