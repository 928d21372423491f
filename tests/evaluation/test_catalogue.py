"""The catalogue: every sampler at equal cost, none dearer than it says and none left out in silence."""

from dataclasses import replace
from pathlib import Path

import pytest

from ivmix.cli import main
from ivmix.evaluation.arms import Arm, check_arms, evaluations
from ivmix.evaluation.catalogue import catalogue_arms
from ivmix.evaluation.design import Design
from ivmix.evaluation.jobs import all_jobs
from ivmix.samplers.reading import sampling
from ivmix.samplers.samplers import SAMPLERS
from ivmix.sprites.truth import TRUTHS

BUDGETS = (4, 20, 40)
FEW = ("lcm", "blend", "turns")


@pytest.fixture(scope="module")
def pair(maker):
    return maker.model.pair


@pytest.fixture(scope="module")
def found(pair):
    return catalogue_arms(pair, BUDGETS)


def test_an_arm_is_within_its_budget_and_one_more_step_is_not(pair, found):
    for arm in found.arms:
        name, _, budget = arm.label.partition(", ")
        if budget:
            at, above = (evaluations(pair, sampling(pair.defaults, {**arm.options, "steps": arm.options["steps"] + k}))
                         for k in (0, 1))  # fmt: skip
            assert at <= int(budget) < above, arm.label
        else:
            assert arm.options == {"sampler": name}


def test_every_sampler_is_there_at_every_budget_and_by_itself_or_why_not_is_said(pair, found):
    labels = {arm.label for arm in found.arms}
    apply = [name for name in SAMPLERS if name not in FEW]
    said = {line.partition(": ")[0]: line.partition(": ")[2] for line in found.left_out}
    assert labels | set(said) >= {f"{name}, {budget}" for name in apply for budget in BUDGETS}
    assert not labels & set(said)
    assert said == {
        "freeinit, 4": "its shortest run is of 5 evaluations",
        "official, 4": "its shortest run is of 10 evaluations",
        **dict.fromkeys(FEW, "it takes a video model's x0 for a clip, and this one's is a mean"),
    }
    settings = {name: sampling(pair.defaults, {"sampler": name}) for name in apply}
    assert set(settings.values()) <= {sampling(pair.defaults, arm.options) for arm in found.arms}
    assert labels.isdisjoint({"ddim", "composite"})  # 20 steps of one evaluation, 10 of two: there already


def test_of_a_consistency_model_only_samplers_of_ends_and_those_without_it_are_compared(pair):
    found = catalogue_arms(replace(pair, video=replace(pair.video, consistency=True)), (20,))
    assert {arm.options["sampler"] for arm in found.arms} == {*FEW, "image"}
    assert "ddim: it asks the video model for scores, and a consistency model has none" in found.left_out


def test_labels_make_files_and_the_cheapest_budget_of_the_video_model_is_the_baseline(found):
    check_arms([*TRUTHS, *found.arms])
    assert found.arms[0] == Arm("ddim, 4", {"sampler": "ddim", "steps": 4})
    assert len({str(sorted(arm.options.items())) for arm in found.arms}) == len(found.arms)


def test_steps_that_two_budgets_share_are_drawn_once(pair):
    found = catalogue_arms(pair, (20, 21))
    assert "zigzag, 20" in {arm.label for arm in found.arms}
    assert "zigzag, 21: its 5 steps are there already" in found.left_out


def test_a_sampler_that_the_pair_cannot_have_is_left_out_by_name(pair):
    other = replace(pair, defaults={**pair.defaults, "pag": {**pair.defaults["pag"], "perturbed_layers": "nowhere"}})
    found = catalogue_arms(other, (4,))
    assert not [arm for arm in found.arms if arm.options["sampler"] == "pag"]
    assert [line for line in found.left_out if line.startswith("pag: perturbed_layers=nowhere: ")]


def test_a_report_of_fewer_clips_needs_what_a_run_that_is_cut_has_drawn_first(maker, found):
    def parts(clips):
        jobs = all_jobs(found.arms, Design(clips, repeats=1, batch_size=2), maker.benchmark.prompts)
        return [(job.path(Path()), job.captions, job.seeds) for job in jobs]

    assert parts(4) == parts(64)[: 2 * len(found.arms)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--catalogue", "--full"], "give either --full or --catalogue, not both"),
        (["--catalogue", "--arms", "x.json"], "give either --arms or --catalogue, not both"),
        (["--budgets", "20"], "--budgets 20: it is of --catalogue"),
        *((["--catalogue", "--budgets", text], f"--budgets {text}: expected whole numbers") for text in
          ("0", "20,", "20,20", "x", "²", "5001")),
        (["--catalogue", "--benchmark", "ucf101", "--videos", "x"], "leave --catalogue out"),
    ],
)  # fmt: skip
def test_a_catalogue_that_cannot_be_is_one_line_and_leaves_nothing(tmp_path, capsys, options, message):
    assert main(["evaluate", "-o", str(tmp_path / "run"), *options]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()
