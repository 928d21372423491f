"""The recipe from nothing to a pair: every stage trains, is deterministic, resumes, and gives what ships."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ivmix.models.json_files import read_json
from ivmix.pairs.description import EMBEDDED
from ivmix.samplers.samplers import SAMPLERS
from ivmix.sprites.measure import Scores, real_clips
from ivmix.sprites.training.loop import read_log
from ivmix.sprites.training.recipe import DEFAULTS, STAGES, describe, describe_bridged, describe_crisp, describe_mapped
from ivmix.sprites.training.run import run_stage

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Three steps or so of every stage."""
    folder = tmp_path_factory.mktemp("run")
    for stage in STAGES:
        run_stage(stage, folder, CPU, scale=0.0007)
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Of all pairs that ship, in the folder of a run or of the package."""
    return {
        f"{path.parent.relative_to(folder)}/{name}": tensor
        for pair in ("pair", "crisp", "bridged", "mapped")
        for path in sorted((folder / pair).rglob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


@pytest.mark.slow
def test_a_trained_pair_has_the_files_keys_and_shapes_of_the_one_that_ships(trained):
    package = EMBEDDED["sprites"].parent
    ours, shipped = weights(trained), weights(package)
    assert {k: (v.shape, v.dtype) for k, v in ours.items()} == {k: (v.shape, v.dtype) for k, v in shipped.items()}
    for path in sorted(package.rglob("config.json")):
        fresh = read_json(trained / path.relative_to(package))
        assert fresh | {"scaling_factor": None} == read_json(path) | {"scaling_factor": None}


def test_the_shipped_descriptions_are_the_recipes():
    for name, description in (("sprites", describe()), ("sprites-crisp", describe_crisp())):
        assert read_json(EMBEDDED[name] / "pair.json") == json.loads(json.dumps(description))
    assert set(DEFAULTS) == {"sampler", "negative_prompt", *SAMPLERS}
    for name, described in (("sprites-bridged", describe_bridged), ("sprites-mapped", describe_mapped)):
        shipped = read_json(EMBEDDED[name] / "pair.json")
        assert shipped == json.loads(json.dumps(described(shipped["bridge"]["levels"])))


@pytest.mark.slow
def test_the_same_seed_trains_the_same_bits_and_another_does_not(trained, tmp_path):
    stage = next(stage for stage in STAGES if stage.name == "judge")
    for name, seed in (("again", 0), ("other", 1)):
        run_stage(stage, tmp_path / name, CPU, seed=seed, scale=0.0007)
    again, other = weights(tmp_path / "again"), weights(tmp_path / "other")
    whole = weights(trained)
    assert all(torch.equal(tensor, whole[name]) for name, tensor in again.items())
    assert not all(torch.equal(tensor, whole[name]) for name, tensor in other.items())


@pytest.mark.slow
def test_a_finished_stage_is_not_trained_again(trained):
    before = (trained / "half.pt").stat().st_mtime_ns
    run_stage(STAGES[0], trained, CPU, scale=0.0007)
    assert (trained / "half.pt").stat().st_mtime_ns == before


@pytest.mark.slow
def test_the_shipped_autoencoder_gives_latents_of_unit_deviation_and_loses_little():
    from ivmix.pairs.pair import load_pair

    pair = load_pair("sprites")
    clips, _ = real_clips(16, seed=11, degraded=False)
    with torch.no_grad():
        latents = pair.vae.encode(clips)
        error = (pair.vae.decode(latents) - clips).square().mean()
    assert latents.std().item() == pytest.approx(1, abs=0.1)
    assert -10 * (error / 4).log10() > 35  # dB over the range [-1, 1]; 36.4 was measured when it was trained


@pytest.mark.slow
@pytest.mark.parametrize(("pair", "degraded"), [("sprites", 1), ("sprites-crisp", 0)])
def test_the_empty_prompt_draws_degraded_frames_and_with_the_control_crisp_ones(pair, degraded):
    """The captions as crisp as ever; the empty prompt is all that guidance 0 hears."""
    from ivmix.generation.text_to_video import TextToVideo
    from ivmix.sprites.measure import load_judge, measure
    from ivmix.sprites.world import balanced_captions

    model, captions = TextToVideo.from_pair(pair), balanced_captions()[:8]

    def scores(guidance: str) -> Scores:
        clips = model(captions, sampler="image", image_guidance=guidance, seed=3, steps=10, frames=2, batch_size=8)
        return measure(clips.frames, captions, load_judge(model.pair))

    empty, drawn = scores("0"), scores("1")
    assert empty.degradation.mean() == pytest.approx(degraded, abs=0.3)
    assert empty.watermark.mean() == pytest.approx(degraded, abs=0.3)
    assert drawn.degradation.mean() < 0.3
    assert drawn.watermark.mean() < 0.1
    assert min(drawn.colour.mean(), drawn.shape.mean()) > 0.85  # of 16 frames; at chance a quarter


@pytest.mark.slow
def test_the_shipped_video_model_draws_and_moves_what_the_caption_says():
    """The first sixteen clips of the reported evaluation; at chance a quarter move as they say, all of them did."""
    from ivmix.evaluation.design import Design
    from ivmix.generation.text_to_video import TextToVideo
    from ivmix.sprites.measure import load_judge, measure
    from ivmix.sprites.truth import Truth
    from ivmix.sprites.world import balanced_captions

    model, design = TextToVideo.from_pair("sprites"), Design(clips=16, repeats=1)
    judge, captions, seeds = load_judge(model.pair), balanced_captions()[:16], design.seeds(range(16))
    scores = measure(model(captions, sampler="ddim", seed=seeds).frames, captions, judge)
    truth = Truth("shown", degraded=True, autoencoded=True)
    shown = measure(truth.draw(model, captions, seeds).frames, captions, judge)
    assert scores.motion.mean() >= 0.8  # the pair's gates
    assert scores.colour.mean() >= 0.97
    assert scores.shape.mean() >= 0.97
    assert scores.flicker.mean() <= 2 * shown.flicker.mean()


@pytest.mark.slow
def test_one_command_trains_the_pair_resumes_after_a_kill_and_writes_its_card(tmp_path):
    ivmix = [sys.executable, "-m", "ivmix"]
    command = [*ivmix, "train", "sprites", "-o", str(tmp_path), "--scale", "0.001", "--clips", "3"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while not (tmp_path / "half.done").exists():
            assert process.poll() is None
        process.kill()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    assert {"curves.png", "image.png", "video.png", "evaluation"} <= {p.name for p in tmp_path.iterdir()}
    assert "| video model alone" in (tmp_path / "pair" / "README.md").read_text()
    assert "2000 more steps" in (tmp_path / "crisp" / "README.md").read_text()
    for stage in STAGES:
        steps = [row["step"] for row in read_log(tmp_path / f"{stage.name}.jsonl")]
        assert steps == sorted(set(steps))
    out = tmp_path / "out.webp"
    for pair in ("pair", "crisp", "student", "bridged", "mapped"):
        sample = ["sample", "a blue cross moving up", "--pair", str(tmp_path / pair), "-o", str(out), "--quiet"]
        subprocess.run([*ivmix, *sample], check=True)
        assert out.exists()
        out.unlink()
