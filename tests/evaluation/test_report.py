"""Reports: every number beside what says how far it can be trusted, small enough to be kept, the same each time."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex, to_rgb
from PIL import Image

from ivmix.cli import main
from ivmix.evaluation.arms import Arm
from ivmix.evaluation.design import Design
from ivmix.evaluation.jobs import Maker, Measured
from ivmix.evaluation.plots import FAMILIES, OTHER, TRUTH, in_lines, named, plot_cost
from ivmix.evaluation.report import (
    Estimate,
    difference_table,
    distance_text,
    main_table,
    markdown,
    rest_table,
    summarise,
)
from ivmix.samplers.samplers import SAMPLERS
from ivmix.sprites.benchmark import COLUMNS
from ivmix.sprites.truth import Truth

DESIGN = Design(clips=16, repeats=2)
MAIN = tuple(name for name, column in COLUMNS.items() if column.main)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("ivmix.evaluation.metrics.reference.RESAMPLES", 19)


def measured(label, seed=0, shift=0.0, truth=False, n=32, d=6) -> Measured:
    rng = np.random.default_rng(seed)
    arm = Truth(label) if truth else Arm(label, {"sampler": "composite"})
    columns = {name: shift + rng.normal(size=n) for name in COLUMNS}
    features = torch.from_numpy(shift + rng.normal(size=(n, d))).float()
    nfe, rows = ({}, {}) if truth else ({"video": 10, "image": 10}, {"video": 20, "image": 20})
    return Measured(arm, features, columns, nfe, rows, 0.5)


@pytest.fixture(scope="module")
def report(maker):
    arms = [measured("crisp clips", 1, truth=True), measured("base", 2), measured("same", 2), measured("other", 3, 0.8)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ivmix.evaluation.metrics.reference.RESAMPLES", 19)
        return summarise(arms, measured("reference", 9, truth=True, n=256).features, DESIGN, maker)


def test_a_column_is_its_mean_and_its_paired_difference_to_the_baseline(report):
    _, base, same, other = report.arms
    a, b = (measured("", seed, shift).columns["motion"] for seed, shift in ((2, 0.0), (3, 0.8)))
    assert base.columns["motion"].mean == pytest.approx(a.mean())
    assert base.columns["motion"].difference is None
    assert (same.columns["motion"].difference, same.columns["motion"].difference_interval) == (0.0, (0.0, 0.0))
    estimate = other.columns["motion"]
    assert estimate.difference == pytest.approx((b - a).mean())
    low, high = estimate.difference_interval
    assert low < estimate.difference < high
    assert estimate.interval[0] < estimate.mean < estimate.interval[1]


def test_what_is_common_to_both_arms_leaves_the_interval_of_their_difference():
    """Pairing is what makes small differences visible: clips vary by 10, the arms differ by 1."""
    rng = np.random.default_rng(0)
    scenes, names = 10 * rng.normal(size=64), [str(k) for k in range(64)]
    estimate = Estimate.of(scenes + 1 + 0.1 * rng.normal(size=64), names, scenes)
    low, high = estimate.interval
    assert low < 0 < high
    assert estimate.difference_interval == pytest.approx((1.0, 1.0), abs=0.05)


def test_distances_are_of_repeats_and_of_all_clips(report):
    _, base, same, other = report.arms
    frechet = other.frechet
    assert len(frechet.repeats) == 2
    assert frechet.mean == pytest.approx(np.mean(frechet.repeats))
    assert frechet.deviation == pytest.approx(np.std(frechet.repeats, ddof=1))
    assert frechet.pooled < frechet.mean  # twice the clips, less bias
    assert other.mmd.pooled > 10 * abs(base.mmd.pooled)  # shifted by 0.8 deviations in every direction
    assert (other.frechet.p_value, other.mmd.p_value) == (1 / 20, 1 / 20)
    assert (same.frechet.p_value, same.mmd.p_value) == (1.0, 1.0)
    assert base.frechet.p_value is None
    assert all(distance.error > 0 for row in report.arms for distance in (row.frechet, row.mmd))


def test_ground_truth_is_the_floor_and_is_compared_with_nothing(report):
    crisp = report.arms[0]
    assert crisp.is_truth
    assert crisp.columns["motion"].difference is None
    assert crisp.frechet.p_value is None
    assert "the row 'crisp clips'" in markdown(report)
    assert report.baseline == "base"


@pytest.mark.parametrize(("d", "warned"), [(16, False), (17, True)])
def test_fewer_clips_than_features_is_warned_of(maker, d, warned):
    arms, reference = [measured("base", d=d)], measured("reference", 9, n=64, d=d).features
    report = summarise(arms, reference, DESIGN, maker)
    assert bool(report.warnings) == warned
    assert ("**Warning**: 16 clips" in markdown(report)) == warned


def test_one_repeat_has_no_deviation(maker):
    design = Design(clips=16, repeats=1)
    report = summarise([measured("base", n=16)], measured("reference", 9, n=64).features, design, maker)
    assert report.arms[0].frechet.deviation is None
    assert "deviation" not in json.loads(report.to_json())["arms"][0]["frechet"]


def test_a_report_of_thirty_arms_stays_small_and_comes_back_as_written(report):
    row = replace(report.arms[3], label="x" * 40)
    text = replace(report, arms=(report.arms[0], *[row] * 30)).to_json()
    assert len(text.encode()) < 100_000
    raw = json.loads(text)
    assert raw["schema"] == 1
    assert raw["arms"][1]["columns"]["motion"]["mean"] == pytest.approx(row.columns["motion"].mean, rel=1e-5)
    assert raw["arms"][1]["settings"]["sampling"]["sampler"] == "composite"
    assert set(raw["uncertainty"]) == {"interval", "difference", "deviation", "error", "p_value"}


def test_tables_have_a_row_an_arm_and_every_column_once(report):
    heads = []
    for text, rows in ((main_table(report), 4), (rest_table(report), 4), (difference_table(report), 2)):
        lines = text.splitlines()
        assert len(lines) == 2 + rows
        assert len({len(line) for line in lines}) == 1
        heads.append({cell.strip() for cell in lines[0].strip("|").split("|")})
    assert heads[0] >= {*MAIN, "Fréchet", "MMD", "evaluations I+V"}
    assert heads[1] >= set(COLUMNS) - set(MAIN)
    assert not heads[0] & heads[1] - {"sampler"}
    assert all(text in markdown(report) for text in (main_table(report), rest_table(report), difference_table(report)))


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [(454.2, 15.8, "454 ± 16"), (6.8812, 0.0065, "6.8812 ± 0.0065"), (-0.000313, 0.0012, "-0.0003 ± 0.0012"),
     (0.123456, None, "0.123"), (454.2, None, "454"), (0.0, 0.0, "0.0 ± 0.0"), (1234.5, 99.6, "1234 ± 100")],
)  # fmt: skip
def test_a_distance_shows_two_digits_of_its_error(value, error, text):
    assert distance_text(value, error) == text


def row(report, label, sampler, steps, cost, **options):
    settings = {"sampling": {"sampler": sampler, "steps": steps, **options}}
    return replace(report.arms[1], label=label, settings=settings, nfe={"video": cost})


def test_arms_that_differ_in_steps_alone_are_a_line_of_the_plot_and_no_others(report):
    rows = [
        row(report, "w2sd, 50", "w2sd", 17, 49), row(report, "up", "zigzag", 5, 17, sequence="up-first"),
        row(report, "w2sd, 20", "w2sd", 7, 19), row(report, "down, 5 steps", "zigzag", 5, 17, sequence="down-first"),
        row(report, "w2sd", "w2sd", 20, 58), row(report, "w2sd, 250", "w2sd", 84, 250),
    ]  # fmt: skip
    lines = in_lines(rows)
    assert [named(line) for line in lines] == ["w2sd (19, 49, 58, 250)", "up (0+17)", "down, 5 steps (0+17)"]
    assert named(lines[0][::3]) == "w2sd (19, 250)"  # 2 is no word of both


def test_every_sampler_has_a_colour_of_its_own():
    assert set(FAMILIES) == set(SAMPLERS)
    assert len({to_hex(one) for one in (*FAMILIES.values(), TRUTH, OTHER)}) == len(FAMILIES) + 2


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, len(SAMPLERS)])
def test_a_plot_of_few_and_of_many_lines_shows_each_in_its_colour(report, tmp_path, count):
    rows = [row(report, f"{name}, {n}", name, n, n) for name in list(SAMPLERS)[:count] for n in (20, 50)]
    plot_cost(replace(report, arms=(report.arms[0], *rows)), tmp_path / "cost.png")
    pixels = np.asarray(Image.open(tmp_path / "cost.png").convert("RGB")).reshape(-1, 3)
    found = {tuple(map(int, pixel)) for pixel in np.unique(pixels, axis=0)}
    expected = {name: tuple(round(255 * part) for part in to_rgb(FAMILIES[name])) for name in list(SAMPLERS)[:count]}
    assert [name for name, colour in expected.items() if colour not in found] == []


ARMS = [{"label": name, "options": {"sampler": name, "steps": 3}} for name in ("ddim", "composite")]


def evaluate(folder, *options) -> int:
    arms = folder.parent / "arms.json"
    arms.write_text(json.dumps(ARMS))
    size = ["--clips", "2", "--seeds", "2", "--batch-size", "2", "--references", "16"]
    return main(["evaluate", "-o", str(folder), "--arms", str(arms), *size, "--quiet", *options])


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_from_the_command_to_report_and_pictures(tmp_path, capsys, monkeypatch):
    """Two shares, then the whole, which draws no clip again; then another option, which is refused."""
    for share in ("1/2", "2/2"):
        assert evaluate(tmp_path / "run", "--shard", share) == 0
        assert capsys.readouterr().out == ""
        assert not (tmp_path / "run" / "report.json").exists()
    monkeypatch.setattr(Maker, "compute", lambda *_: pytest.fail("drew clips that were there"))
    assert evaluate(tmp_path / "run") == 0
    said = capsys.readouterr()
    assert [line.split("|")[1].strip() for line in said.out.splitlines()[2:]] == [
        "crisp clips", "crisp clips, autoencoded", "degraded clips", "degraded clips, autoencoded", "ddim", "composite",
    ]  # fmt: skip
    assert "2 clips a repeat for 256 features" in said.err
    names = {"clips.png", "cost.png", "distances.png", "report.json", "report.md", "scores.png"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == names | {"parts"}
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert (report["clips"], report["repeats"], report["references"], report["baseline"]) == (2, 2, 16, "ddim")
    crisp, autoencoded, degraded, _, ddim, composite = report["arms"]
    assert crisp["columns"]["motion"]["mean"] == 1.0
    assert degraded["columns"]["watermark"]["mean"] == pytest.approx(1, abs=0.1)
    assert autoencoded["frechet"]["mean"] < degraded["frechet"]["mean"]
    assert (ddim["nfe"], composite["nfe"]) == ({"video": 3}, {"video": 3, "image": 3})
    assert composite["columns"]["degradation"]["difference"] < 0
    monkeypatch.setitem(ARMS[1]["options"], "steps", 4)
    assert evaluate(tmp_path / "run") == 2
    assert "composite-000000.safetensors was made with steps 3, now 4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arms", "message"),
    [([], "at least one sampler"), ([{"label": "Reference", "options": {}}], "'reference' and 'Reference'"),
     ([{"label": "x", "options": {"sampler": "ddim", "steps": 0}}], "arm 'x': steps=0")],
)  # fmt: skip
def test_arms_that_cannot_be_are_refused_before_anything_is_drawn(tmp_path, capsys, monkeypatch, arms, message):
    monkeypatch.setattr(Maker, "compute", lambda *_: pytest.fail("drew clips first"))
    monkeypatch.setitem(globals(), "ARMS", arms)
    assert evaluate(tmp_path / "run") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_file_in_the_place_of_the_folder_is_refused_and_kept(tmp_path, capsys):
    (tmp_path / "run").write_text("mine")
    assert evaluate(tmp_path / "run") == 2
    assert "is a file: expected a folder" in capsys.readouterr().err
    assert (tmp_path / "run").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--full"], "either --full or --arms"),
        (["--shard", "3/2"], "--shard 3/2: expected I/N"),
        (["--shard", "0/2"], "--shard 0/2: expected I/N"),
        (["--seeds", "0"], "repeats (--seeds)=0: expected 1 or more"),
        (["--clips", "1"], "clips=1: expected 2 or more"),
        (["--clips", "2", "--seeds", "1"], "clips=2 in one repeat: expected 3 or more"),
        (["--references", "1"], "references=1: expected 2 or more"),
        (["--arms", "nowhere.json"], "nowhere.json"),
    ],
)
def test_options_that_cannot_be_are_one_line_and_leave_nothing(tmp_path, capsys, options, message):
    assert evaluate(tmp_path / "run", *options) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()
