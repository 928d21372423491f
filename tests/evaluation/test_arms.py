"""Arms: what is compared is what was asked for, and nothing starts that cannot end."""

import json

import numpy as np
import pytest

from ivmix.evaluation.arms import Arm, check_arms, core_arms, evaluations, full_arms, read_arms
from ivmix.samplers.reading import sampling
from ivmix.sprites.truth import TRUTHS

CAPTIONS, SEEDS = ["a red circle moving left", "a blue cross moving up", "a green square moving down"], [7, 8, 9]


def test_the_video_model_at_iv_mixeds_cost_costs_what_iv_mixed_does(maker):
    """5(n - 2) + 2 of both networks together, at the pair's 20 steps 92; counted by the run itself at fewer steps."""
    arms = {arm.label: arm for arm in core_arms(maker.model.pair)}
    assert arms["video model alone at IV-Mixed's cost"].options["steps"] == 5 * (20 - 2) + 2
    short = Arm("IV-Mixed", {**arms["IV-Mixed, down-first"].options, "steps": 3})
    assert sum(short.draw(maker.model, CAPTIONS[:1], SEEDS[:1]).nfe.values()) == 5 * (3 - 2) + 2


@pytest.mark.parametrize("name", ["composite", "mixture", "videoguide", "pag"])
def test_what_is_planned_is_what_a_run_counts(maker, name):
    """Of both models, of a plan within a plan, and of a model that is asked in two ways."""
    arm = Arm(name, {"sampler": name, "steps": 2})
    planned = evaluations(maker.model.pair, sampling(maker.model.pair.defaults, arm.options))
    assert planned == sum(arm.draw(maker.model, CAPTIONS[:1], SEEDS[:1]).nfe.values())


def test_every_arm_of_the_full_run_can_be_drawn_and_has_a_name_of_its_own(maker):
    arms = [*TRUTHS, *full_arms(maker.model.pair)]
    check_arms(arms)
    assert {json.dumps(arm.settings(maker.model)) for arm in core_arms(maker.model.pair)} < {
        json.dumps(arm.settings(maker.model)) for arm in arms
    }


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ((), "at least one sampler"),
        (("a b", "A-b"), "labels that differ"),
        (("γ",), "1 to 100 letters"),
        (("x" * 101,), "1 to 100 letters"),
    ],
)
def test_labels_that_make_no_file_names_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        check_arms([Arm(label, {}) for label in labels])


def test_ground_truth_alone_is_no_comparison():
    with pytest.raises(ValueError, match="at least one sampler"):
        check_arms(TRUTHS)


def test_arms_are_read_from_a_file(tmp_path):
    path = tmp_path / "arms.json"
    path.write_text('[{"label": "gamma 1", "options": {"sampler": "zigzag", "image_guidance": "1"}}]')
    assert read_arms(path) == (Arm("gamma 1", {"sampler": "zigzag", "image_guidance": "1"}),)


BROKEN = {
    "": "is not JSON",
    "{}": r"expected a JSON list of the form \[.*, got a dict",
    "[]]": "is not JSON",
    "[3]": "arm 0 is 3, expected an object",
    '[{"label": "a"}]': "arm 0: it lacks the entry 'options'",
    '[{"label": 1, "options": {}}]': "arm 0: label is 1, expected text",
    '[{"label": "a", "options": []}]': r"arm 0: options is \[\], expected an object",
    '[{"label": "a", "options": {}, "steps": 3}]': "arm 0: unknown entry 'steps'",
}


@pytest.mark.parametrize("text", BROKEN)
def test_a_file_of_anything_else_is_refused_by_what_is_wrong(tmp_path, text):
    path = tmp_path / "arms.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"arms\.json.*{BROKEN[text]}"):
        read_arms(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "ddim", "pattern": "IV-IV"}, "pattern has no meaning for sampler 'ddim'"),
        ({"sampler": "ddim", "strength": "0.3"}, "strength='0.3'"),
        ({"sampler": "ddim", "invert": True}, "invert says how to begin from a clip"),
        ({"sampler": "ddim", "frames": 2.5}, "frames=2.5"),
        ({"sampler": "ddim", "window": 17}, "window=17: expected a whole number from 1 to 16"),
        ({"sampler": "ddim", "frames": 20, "overlap": 8}, "overlap=8: expected a whole number from 0 to 7"),
        ({"sampler": "ddim", "noise": "pink"}, "noise 'pink': expected one of"),
        ({"sampler": ["ddim"]}, r"sampler \['ddim'\]: expected one of"),
    ],
)
def test_options_that_cannot_be_name_their_arm(maker, options, message):
    with pytest.raises(ValueError, match=f"arm 'x': {message}"):
        Arm("x", options).settings(maker.model)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the video model has the clip in windows")
def test_an_arm_draws_a_long_clip_by_its_windows(maker):
    options = {"sampler": "ddim", "steps": 1, "frames": 10, "window": 6, "overlap": 2, "noise": "freenoise"}
    arm = Arm("long", options)
    drawn = arm.draw(maker.model, CAPTIONS[:1], SEEDS[:1])
    own = maker.model(CAPTIONS[:1], seed=SEEDS[:1], **options)
    assert (own.record.window, own.record.overlap, own.record.noise) == (6, 2, "freenoise")
    assert np.array_equal(drawn.frames, own.frames)
    told = ("frames", "window", "overlap", "noise")
    assert {name: arm.settings(maker.model)[name] for name in told} == {name: options[name] for name in told}


def test_an_arm_of_a_strength_begins_from_the_degraded_clips_of_its_captions_and_seeds(maker):
    source = maker.benchmark.source
    given = source.draw(maker.model, CAPTIONS, SEEDS).frames[:, :2]
    options = {"sampler": "ddim", "steps": 4, "frames": 2, "strength": 0.5}
    arm, inverted = Arm("edit", options), Arm("edit", {**options, "invert": True})
    drawn, both = (one.draw(maker.model, CAPTIONS, SEEDS, source) for one in (arm, inverted))
    own = maker.model(CAPTIONS, seed=SEEDS, batch_size=3, video=given, sampler="ddim", steps=4, strength=0.5)
    assert np.array_equal(drawn.frames, own.frames)
    assert (drawn.nfe, both.nfe) == ({"video": 2}, {"video": 4})
    assert arm.settings(maker.model) | {"invert": True} == inverted.settings(maker.model)
