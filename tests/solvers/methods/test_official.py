"""The presets against recorded runs of the authors' loops, on closed-form networks, in float64 (tests/data)."""

import hashlib
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ivmix.solvers import GuidanceRamp, Guided, Network, Official, integrate, planned_nfe
from ivmix.solvers.methods.official import guidance_table

SCHEDULE = Official.schedule()
DATA = Path(__file__).parents[2] / "data"


def image(z, k, c):
    """tanh(0.7 x + 0.3 roll_width(x) - 0.2 roll_height(x) + c + 0.5 cos(3k/1000)), frame by frame."""
    return torch.tanh(0.7 * z + 0.3 * z.roll(1, -1) - 0.2 * z.roll(1, -2) + c + 0.5 * torch.cos(3 * k / 1000))


def video(z, k, c):
    """tanh(0.6 x + 0.4 roll_frame(x) + 0.2 roll_channel(x) + c + 0.5 sin(5k/1000))."""
    return torch.tanh(0.6 * z + 0.4 * z.roll(1, 2) + 0.2 * z.roll(1, 1) + c + 0.5 * torch.sin(5 * k / 1000))


def guided(network, recorded, side):
    """Both prompts of a network: c is one number per channel, the mean of its embedding over tokens."""
    names = f"{side}_negative_prompt_embeds", f"{side}_prompt_embeds"
    return Guided(*(network(recorded[name].mean(1)[:, :, None, None, None]) for name in names))


@pytest.mark.parametrize("variant", ["animatediff", "modelscope"])
def test_recorded_runs_are_reproduced_at_every_leg(variant):
    recorded = load_file(DATA / f"official_{variant}.safetensors")
    # the toy AnimateDiff run gives both networks the video network's embeddings
    image_side = "vdm" if variant == "animatediff" else "idm"
    fields = {
        "image": guided(Network(image, SCHEDULE, "epsilon", "image"), recorded, image_side),
        "video": guided(Network(video, SCHEDULE, "epsilon", "video"), recorded, "vdm"),
    }
    legs = Official(variant, steps=10).legs(SCHEDULE)
    x = SCHEDULE.start(recorded["latents"], legs[0].source)
    run = integrate(fields, legs, x, schedule=SCHEDULE, trace=True)
    assert run.nfe == {"image": 20, "video": 30}
    compared = 0
    for number, record in enumerate(run.trace):
        step, leg = record.leg.step, number % 5 + 1
        key = f"step{step:03d}.leg{leg}" if step < 3 else f"step{step:03d}.out"
        if key.endswith("out") and leg < 5:
            continue
        z = SCHEDULE.alpha_at(record.leg.target) * record.x
        # the replay differs from the loop by rounding, amplified by guidance 7.5 over 10 steps: 9e-14 was measured
        torch.testing.assert_close(z, recorded[key], rtol=0, atol=1e-10)
        compared += 1
    assert compared == 3 * 5 + 7


def replayed(recorded, steps, noise, zz):
    """The VideoCrafter loop as the tables of the reference have it, in VP coordinates and training timesteps."""
    A32 = SCHEDULE.alpha.square().float()
    A = A32.double()
    R, R2, w, g = 1000 // steps, 2000 // steps, 9.0, 4.000000953674316
    times = [1000 // (steps + 1) * k + 1 for k in range(steps, 0, -1)]
    levels = np.sqrt(((1 - A32) / A32)[times].numpy())  # torch's root is not always the nearest float32
    sigmas = [*torch.from_numpy(levels).double(), torch.tensor(0.0).double()]

    def abar(k):
        return A[max(k, 0)]

    def guide(network, side, x, k, scale):
        k = torch.tensor(float(k), dtype=torch.float64)
        e_u, e_c = (
            network(x, k, recorded[f"{side}_{name}_embeds"].mean(1)[:, :, None, None, None])
            for name in ("negative_prompt", "prompt")
        )
        return e_u + scale * (e_c - e_u)

    def move(x, e, a, b):
        ratio = (abar(b) / abar(a)).sqrt()
        return ratio * x + ((1 - abar(b)).sqrt() - (1 - abar(a)).sqrt() * ratio) * e

    x, m_last, states = recorded["latents"], None, []
    for i, t in enumerate(times):
        p, q = max(0, t - R), max(0, t - R2)
        first = (video, "vdm") if i % zz == zz - 1 else (image, "idm")  # with gI in both cases
        x = move(x, guide(*first, x, t, g), t, t - R)
        states.append(x)
        x = move(x, guide(video, "vdm", x, p, g), p, p - R)
        states.append(x)
        x = move(x, guide(*first, x, q, -g), p - R, p)
        states.append(x)
        x = move(x, guide(video, "vdm", x, p, -g), t - R, t)
        states.append(x)
        s0, s1 = sigmas[i], sigmas[i + 1]
        al0, al1 = 1 / (1 + s0**2).sqrt(), 1 / (1 + s1**2).sqrt()
        m = x / al0 - s0 * guide(video, "vdm", x, t, w)
        if s1 == 0:
            states.append(m)
            return states
        h = (s0 / s1).log()
        k = 1 - (-2 * h).exp()
        x = al1 * s1 / (al0 * s0) * (-h).exp() * x + al1 * k * m + al1 * s1 * k.sqrt() * noise[i]
        if i > 0:
            x = x + 0.5 * al1 * k * (m - m_last) * h / (sigmas[i - 1] / s0).log()
        m_last = m
        states.append(x)


@pytest.mark.parametrize("zz", [None, 1, 1000])
def test_videocrafter_is_its_table_replayed(zz):
    recorded = load_file(DATA / "official_modelscope.safetensors")
    noise = torch.randn(9, *recorded["latents"].shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    fields = {
        "image": guided(Network(image, SCHEDULE, "epsilon", "image"), recorded, "idm"),
        "video": guided(Network(video, SCHEDULE, "epsilon", "video"), recorded, "vdm"),
    }
    legs, draws = Official("videocrafter", steps=10, zz=zz).legs(SCHEDULE), iter(noise)
    start = SCHEDULE.start(recorded["latents"], legs[0].source)
    if zz == 1:
        assert "image" not in planned_nfe(legs)
    run = integrate(fields, legs, start, schedule=SCHEDULE, noise=lambda *_: next(draws), trace=True)
    states = replayed(recorded, 10, noise, zz or 3)
    assert len(states) == len(run.trace) == 50
    for state, record in zip(states, run.trace, strict=True):
        alpha = SCHEDULE.alpha_at(record.leg.target) if record.leg.target > 0 else 1.0
        # rounding, amplified by guidance 9 over 10 steps
        torch.testing.assert_close(alpha * record.x, state, rtol=0, atol=1e-10)


def tables() -> dict[str, str]:
    """A hash of the bits of every float32 table there is."""
    ramps = GuidanceRamp(4.0), GuidanceRamp(4.0, 2.0), GuidanceRamp(2.0, 6.0, 3.0), GuidanceRamp(6.0, 1.0, -0.5)
    multistep = [leg.source for leg in Official("videocrafter").legs(SCHEDULE) if leg.label == "step"]
    found = {
        "alphas": SCHEDULE.alpha.square().tolist(), "levels": multistep, "scales": list(map(guidance_table, ramps))
    }  # fmt: skip
    return {name: hashlib.sha256(np.float32(values).tobytes()).hexdigest()[:16] for name, values in found.items()}


BITS = {"alphas": "b0c6833c866f3aae", "levels": "dd4ee9b1fe1a4097", "scales": "3c26ce5ed428d72d"}


@pytest.mark.slow
@pytest.mark.parametrize("setting", [{}, {"ATEN_CPU_CAPABILITY": "avx2"}, {"ATEN_CPU_CAPABILITY": "default"}], ids=str)
def test_tables_have_the_same_bits_whatever_the_processor_does(setting):
    """The alphas are those of the recorded runs. Without its fused multiply-adds, torch gives 121 others."""
    if not setting:
        assert tables() == BITS
        return
    code = f"import runpy; print(runpy.run_path({str(Path(__file__))!r})['tables']())"
    run = subprocess.run([sys.executable, "-c", code], env={**os.environ, **setting}, capture_output=True, text=True)
    assert run.stdout.strip() == str(BITS), run.stderr


def test_videocrafter_at_fifty_steps():
    legs = Official("videocrafter").legs(SCHEDULE)
    assert planned_nfe(legs) == {"image": 68, "video": 182}
    assert planned_nfe(Official("videocrafter", zz=1000).legs(SCHEDULE)) == {"image": 100, "video": 150}
    times = SCHEDULE.t([leg.told for leg in legs if leg.label == "step"])
    assert (times[0], times[-1], len(times)) == (951, 20, 50)
    assert set(times.diff().tolist()) == {-19.0}
    assert {leg.guidance for leg in legs if leg.label == "step"} == {9.0}
    assert [leg.source for leg in legs if leg.label == "step"][1:] == [
        leg.target for leg in legs if leg.label == "step"
    ][:-1]


@pytest.mark.parametrize("steps", [499, 998])
def test_videocrafter_plays_from_the_last_training_level(steps):
    """Whose float32 level is a rounding above the schedule's own."""
    legs = Official("videocrafter", steps, interval=(1, 1)).legs(SCHEDULE)
    field = Network(lambda z, t, c: torch.zeros_like(z), SCHEDULE, "epsilon", "video")(None)
    fields = {name: Guided(field, field) for name in ("image", "video")}
    x = SCHEDULE.start(torch.ones(1, 1, 1, 2, 2), legs[0].source)
    run = integrate(fields, legs, x, schedule=SCHEDULE, noise=lambda *_: torch.zeros_like(x))
    assert run.at == 0
    assert SCHEDULE.t(legs[0].told) == 999


@pytest.mark.parametrize("variant", ["animatediff", "modelscope"])
def test_fifty_steps_are_250_evaluations(variant):
    assert planned_nfe(Official(variant).legs(SCHEDULE)) == {"image": 100, "video": 150}


@pytest.mark.parametrize(("zz", "image_evaluations"), [(1, 0), (3, 68), (51, 100), (1000, 100)])
def test_zz_runs_the_direction_the_code_runs(zz, image_evaluations):
    counts = planned_nfe(Official("animatediff", zz=zz).legs(SCHEDULE))
    assert counts.get("image", 0) == image_evaluations
    assert sum(counts.values()) == 250


@pytest.mark.parametrize(("variant", "scale"), [("animatediff", 2.0), ("videocrafter", 1.0)])
def test_a_replaced_image_leg_has_its_own_variants_guidance(variant, scale):
    given = {"image_guidance": GuidanceRamp(1.0), "video_guidance": GuidanceRamp(2.0)}
    legs = Official(variant, steps=10, zz=1, **given).legs(SCHEDULE)
    assert {round(abs(leg.guidance), 6) for leg in legs if leg.label.startswith("I")} == {scale}  # in float32


@pytest.mark.parametrize(("variant", "first"), [("animatediff", 933), ("modelscope", 999)])
def test_where_1000_is_no_multiple_of_the_steps(variant, first):
    """15 steps: R = 66 but R2 = 133, so that the up leg of the image network is told one level less than it is at."""
    legs = Official(variant, steps=15).legs(SCHEDULE)
    times = [SCHEDULE.t([leg.told, leg.source, leg.target]).tolist() for leg in legs[:5]]
    assert times == [
        [first, first, first - 66],
        [1932 - first, 1932 - first, 1866 - first],
        [866, 867, 933],
        [933, 933, 999],
        [999, 999, 933],
    ]
    steps = [SCHEDULE.t(leg.told).item() for leg in legs if leg.label == "step"]
    assert steps == torch.linspace(999, 0, 15, dtype=torch.float64).round().tolist()


def test_the_interval_is_inclusive():
    legs = Official("modelscope", steps=10, interval=(0, 4)).legs(SCHEDULE)
    assert sum(planned_nfe(legs).values()) == 30


def test_tables_have_50_entries_whatever_the_steps():
    """With 10 steps, a ramp from 2 to 6 stops at its tenth entry of fifty."""
    legs = Official("animatediff", steps=10, image_guidance=GuidanceRamp(2.0, 6.0)).legs(SCHEDULE)
    last = [leg for leg in legs if leg.label == "I down 1"][-1]
    assert last.guidance == pytest.approx(2.48, abs=0.01)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"variant": "sora"}, "variant"),
        ({"steps": 1}, "steps"),
        ({"steps": 60, "interval": (0, 59)}, "interval"),
        ({"interval": (0.0, 1.0)}, "first and last mixed step"),  # those of IVMixed
        ({"interval": (5, 2)}, "first and last mixed step"),
        ({"interval": (-5, 2)}, "first and last mixed step"),
        ({"interval": 5}, "first and last mixed step.*got 5, expected two whole numbers"),
        ({"interval": (0, 2, 4)}, "first and last mixed step.*expected two"),
        ({"guidance": math.nan}, "guidance"),
        ({"guidance": "7"}, "guidance: got '7'"),
        ({"variant": "videocrafter", "zz": 2.5}, "zz: got 2.5"),
        ({"variant": "videocrafter", "zz": True}, "zz: got True"),
        ({"variant": "modelscope", "zz": 3}, "zz"),
        ({"variant": "videocrafter", "zz": 0}, "zz"),
        ({"variant": "videocrafter", "steps": 999, "interval": (0, 9)}, "steps"),
    ],
)
def test_bad_options_are_refused(options, name):
    with pytest.raises(ValueError, match=name):
        Official(**{"variant": "animatediff", **options})
    with pytest.raises(TypeError, match="image_guidance: got 3"):
        Official("animatediff", image_guidance=3.0)
