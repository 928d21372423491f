"""Options become plans: defaults, what was given, what is refused, and what a plan costs."""

import re
from functools import cache

import pytest
import torch

from ivmix.cli import main
from ivmix.samplers.mixed import Zigzag
from ivmix.samplers.options import SPACINGS
from ivmix.samplers.reading import sampling
from ivmix.samplers.samplers import SAMPLERS
from ivmix.samplers.solver_names import SOLVERS, STOCHASTIC
from ivmix.solvers import (
    Euler,
    GuidanceRamp,
    Guided,
    Heun,
    LowPass,
    Official,
    Schedule,
    bivdiff,
    few_step,
    integrate,
    normal_noise,
    pag,
    planned_nfe,
    renewed,
    seen,
    stg,
    videoguide,
    zsampling,
)
from ivmix.solvers.theory.analytic import Gaussian, GaussianNetwork
from ivmix.sprites.training.recipe import DEFAULTS


class Seen(GaussianNetwork):
    """A closed form that is broader where layers are missing."""

    def seen(self, **how: tuple[str, ...]) -> GaussianNetwork:
        [names] = how.values()
        if "nowhere" in names:
            raise ValueError(f"{next(iter(how))}: got 'nowhere', expected one of mid_block")
        return GaussianNetwork(f"{self.name} perturbed", {"": Gaussian(0.0, 1.5), "c": Gaussian(0.5, 0.9)})


def guided(name: str) -> Guided:
    network = Seen(name, {"": Gaussian(0.0, 1.0), "c": Gaussian(0.5, 0.6)})
    return Guided(network(""), network("c"))


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_record_of_options_reads_back_to_the_same_sampling(name):
    chosen = sampling(DEFAULTS, {"sampler": name, "steps": 7})
    recorded = chosen.to_dict()
    kind = recorded.pop("sampler")
    assert sampling({"sampler": kind, kind: recorded}, {}) == chosen


def test_a_run_may_take_every_spacing_that_the_command_s_help_names(capsys):
    assert main(["sample", "--help"]) == 0
    (said,) = re.findall(r"\n  --spacing NAME(.*?)\n  --", capsys.readouterr().out, re.DOTALL)
    for name in SPACINGS:
        assert re.search(rf"[ (]{name}[,;) ]", " ".join(said.split()).replace("- ", "-")), name
        chosen = sampling(DEFAULTS, {"sampler": "ddim", "steps": 5, "spacing": name})
        assert chosen.grid(Schedule.scaled_linear()).shape == (6,)


def test_what_is_given_overrides_the_defaults_and_texts_are_read():
    given = {"sampler": "zigzag", "image_guidance": "4:2:1", "interval": "0:0.5", "steps": None}
    chosen = sampling(DEFAULTS, given)
    assert isinstance(chosen, Zigzag)
    assert chosen.image_guidance == GuidanceRamp(4.0, 2.0, 1.0)
    assert chosen.interval == (0.0, 0.5)
    assert chosen.steps == DEFAULTS["zigzag"]["steps"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sampler": "ddin"}, "sampler 'ddin': expected one of ddim, zigzag.*official$"),
        ({"sampler": "euler"}, "sampler 'euler': expected one of ddim.*; that is sampler ddim with solver euler$"),
        ({"sampler": "dpmpp_2m"}, "sampler 'dpmpp_2m': .*; that is sampler ddim with solver dpm\\+\\+2m"),
        ({"solver": "res_multistep"}, "solver 'res_multistep' is not known: it is exp-ab2 here"),
        ({"sampler": "ddim", "pattern": "IV-IV"}, "pattern has no meaning for sampler 'ddim': it belongs to zigzag"),
        ({"sampler": "composite", "sequence": "up-first"}, "it belongs to zigzag"),
        ({"colour": 1}, "option 'colour' is not known: expected sampler, steps"),
        ({"num_inference_steps": 1}, "option 'num_inference_steps' is not known: it is steps here"),
        ({"step": 1}, "option 'step' is not known: did you mean 'steps'"),
        ({"steps": 0}, "steps=0: expected a whole number from 1"),
        ({"steps": 2.5}, "steps=2.5"),
        ({"solver": "rk9"}, "solver 'rk9': expected one of euler"),
        ({"spacing": "even"}, "spacing 'even'"),
        ({"guidance": float("nan")}, "guidance=nan: expected a finite number"),
        ({"sampler": "zigzag", "image_guidance": "nan"}, "image_guidance=nan"),
        ({"sampler": "zigzag", "image_guidance": "4:x"}, "image_guidance=4:x.*BEGIN"),
        ({"sampler": "zigzag", "video_guidance": "-1"}, "video_guidance=-1"),
        ({"sampler": "zigzag", "pattern": "IV-V"}, "pattern.*'IV-V'"),
        ({"sampler": "zigzag", "sequence": "sideways"}, "sequence 'sideways'"),
        ({"sampler": "zigzag", "interval": "0.5"}, "interval=0.5: expected A:B"),
        ({"sampler": "zigzag", "interval": "1:0"}, "interval=1:0"),
        ({"sampler": "zigzag", "period": 0}, "period=0"),
        ({"sampler": "composite", "pattern": "R-I"}, "'dpm.*2m': pattern R-I brings fresh.*one of sde-dpm"),
        ({"sampler": "composite", "pattern": "R-I", "solver": "er-sde"}, "'er-sde': pattern R-I.*one of sde"),
        ({"sampler": "composite", "solver": "sde-dpm++2m"}, "pattern IV-IV brings no fresh.*one of euler"),
        ({"sampler": "mixture", "image_weight": 2.0}, "image_weight=2"),
        ({"sampler": "freeinit", "iterations": 0}, "iterations=0: expected a whole number from 1"),
        ({"sampler": "freeinit", "spatial_cutoff": 0.0}, "spatial_cutoff=0.0: expected a number above 0"),
        ({"sampler": "freeinit", "temporal_cutoff": float("inf")}, "temporal_cutoff=inf"),
        ({"sampler": "ddim", "iterations": 2}, "iterations has no meaning for sampler 'ddim': it belongs to freeinit"),
        ({"sampler": "zsampling", "inversion_guidance": float("nan")}, "inversion_guidance=nan"),
        ({"sampler": "zsampling", "steps": 5, "zigzags": 5}, "zigzags=5: expected a whole number from 0 to 4"),
        ({"sampler": "zsampling", "image_guidance": "1"}, "image_guidance has no meaning for sampler 'zsampling'"),
        ({"sampler": "w2sd", "steps": 5, "zigzags": 5}, "zigzags=5: expected a whole number from 0 to 4"),
        ({"sampler": "autoguidance", "contrast": float("inf")}, "contrast=inf: expected a finite number"),
        ({"sampler": "switch", "switch_at": 0.0}, "switch_at=0.0: expected a level above 0"),
        ({"sampler": "cfgpp", "guidance": 2.0}, "guidance has no meaning for sampler 'cfgpp'"),
        ({"sampler": "cfgpp", "solver": "heun"}, "solver 'heun': cfgpp is made of Euler's steps, expected euler"),
        ({"sampler": "pag", "perturbed_layers": "mid_block,"}, "perturbed_layers='mid_block,': expected names with"),
        ({"sampler": "stg", "perturbed_layers": 3}, "perturbed_layers=3: expected names with commas between"),
        ({"sampler": "stg", "perturbed_guidance": float("nan")}, "perturbed_guidance=nan: expected a finite number"),
        ({"sampler": "pag", "pag_scale": 3.0}, "option 'pag_scale' is not known: it is perturbed_guidance here"),
        ({"sampler": "official", "variant": "sora"}, "variant.*'sora'.*expected one of 'animatediff'"),
        ({"sampler": "official", "steps": 1}, "steps.*1.*from 2 to 1000"),
        ({"sampler": "official", "spacing": "karras"}, "spacing has no meaning for sampler 'official'"),
        ({"sampler": "official", "interval": "0:30"}, "interval=0:30: expected A:B with 0 <= A < B <= 1"),
        ({"sampler": "official", "interval": "0.01:0.02"}, "interval=0.01:0.02: none of 50 steps begins in it"),
        ({"sampler": "official", "steps": 60}, "interval=0:1 mixes steps 0 to 59 of 60.*end it at 0.833 or before"),
        ({"sampler": "official", "period": 0}, "period=0"),
        ({"sampler": "official", "variant": "modelscope", "period": 3}, "period=3: the loop of variant 'modelscope'"),
        ({"sampler": "official", "zz": 3}, "option 'zz' is not known: it is period here"),
    ],
)  # fmt: skip
def test_an_option_that_cannot_be_is_one_clear_error(given, message):
    with pytest.raises(ValueError, match=message):
        sampling(DEFAULTS, given)


def test_a_pair_whose_defaults_lack_an_option_says_which():
    with pytest.raises(ValueError, match=r"sampler 'ddim'.*guidance"):
        sampling({"sampler": "ddim", "ddim": {"steps": 4}}, {})


@pytest.mark.parametrize(
    ("name", "nfe"),
    [
        ("ddim", {"video": 10}),
        ("image", {"image": 10}),
        ("zigzag", {"image": 16, "video": 26}),  # 5 (n - 2) + 2
        ("composite", {"image": 10, "video": 10}),
        ("mixture", {"image": 5, "video": 10}),  # the late half: u in [0.5, 1] of 10 nodes
        ("freeinit", {"video": 50}),
        ("zsampling", {"video": 28}),  # 10 + 2·9
        ("w2sd", {"image": 9, "video": 19}),
        ("autoguidance", {"image": 10, "video": 10}),
        ("switch", {"image": 3, "video": 7}),  # three levels of the grid are below 0.9
        ("cfgpp", {"video": 10}),
        ("videoguide", {"video": 15}),  # the first step alone, whose teacher comes to the grid's end in 5
        ("bivdiff", {"image": 19, "video": 10}),  # 2n - 1 and, as only the image model inverts, n
        ("pag", {"video": 10, "video perturbed": 10}),
        ("stg", {"video": 10, "video perturbed": 10}),
        ("lcm", {"video": 10}),
        ("blend", {"image": 5, "video": 10}),
        ("turns", {"image": 5, "video": 5}),
    ],
)
def test_a_plan_runs_and_costs_what_its_sampler_promises(name, nfe):
    schedule = Schedule.scaled_linear()
    sigmas = schedule.grid(10)
    interval = {"mixture": "0.5:1", "zigzag": "0:1", "composite": "0:1"}.get(name)
    given = {"sampler": name, "steps": 10, "solver": "euler", "interval": interval}
    chosen = sampling(DEFAULTS, given | ({"switch_at": 0.9} if name == "switch" else {}))
    fields, legs = chosen.plan(guided("image"), guided("video"), sigmas)
    x = torch.randn(1, 1, 4, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * sigmas[0]
    seen = []
    run = integrate(
        fields, legs, x, noise=normal_noise([0], (1, 4, 2, 2)), schedule=schedule,
        callback=lambda step, total, run: seen.append(total),
    )  # fmt: skip
    assert dict(run.nfe) == nfe
    assert seen == [chosen.outer_steps] * len(seen)
    assert planned_nfe(legs, fields) == nfe
    assert planned_nfe(legs, fields) == nfe
    fields_of_two = ("composite", "mixture", "autoguidance", "pag", "stg", "blend")
    if name not in fields_of_two:  # whose legs name one
        assert planned_nfe(legs) == nfe


def test_the_options_of_the_baselines_reach_their_plans():
    def legs(**options):
        return sampling(DEFAULTS, {"steps": 4, **options}).plan(guided("image"), guided("video"), sigmas)[1]

    sigmas = Schedule.scaled_linear().grid(4)
    begun = [leg for leg in legs(sampler="freeinit", iterations=3, spatial_cutoff=0.5, temporal_cutoff=0.2) if leg.keep]
    assert [leg.keep for leg in begun] == [LowPass(0.5, 0.2)] * 2
    chosen = {"guidance": 2.0, "inversion_guidance": 0.5, "zigzags": 1, "solver": "heun"}
    assert legs(sampler="zsampling", **chosen) == zsampling(sigmas, 2.0, 0.5, 1, Heun())


def test_few_steps_go_down_to_x0_and_up_by_noise_whoever_tells_it():
    def plan(**options):
        return sampling(DEFAULTS, {"steps": 4, **options}).plan(guided("image"), guided("video"), sigmas)

    schedule = Schedule.scaled_linear()
    sigmas = sampling(DEFAULTS, {"sampler": "lcm"}).grid(schedule)
    assert torch.equal(sigmas, schedule.grid(4, "lcm"))
    assert plan(sampler="lcm", guidance=1.5)[1] == few_step(sigmas, 1.5)
    turns = plan(sampler="turns", guidance=1.5, image_guidance="3:2:1")[1]
    assert [(leg.network, leg.guidance) for leg in turns if leg.network] == [
        ("video", 1.5), ("image", pytest.approx(8 / 3)), ("video", 1.5), ("image", 2.0)
    ]  # fmt: skip
    assert {(leg.source, leg.target) for leg in turns} == {(leg.source, leg.target) for leg in few_step(sigmas)}
    late = plan(sampler="turns", interval="0.5:1")[1]
    assert [leg.step for leg in late if leg.network == "image"] == [3]
    field, legs = plan(sampler="blend", guidance=1.0, image_guidance="1", image_weight=0.25, interval="0.5:1")
    assert legs == few_step(sigmas)
    x = torch.ones(1, 1, 4, 2, 2, dtype=torch.float64)
    image, video = guided("image").at(1.0), guided("video").at(1.0)
    for level, share in ((sigmas[0], 0.0), (sigmas[3], 0.25)):
        expected = (1 - share) * video(x, level) + share * image(x, level)
        torch.testing.assert_close(field(x, level), expected, rtol=1e-12, atol=0)
    with pytest.raises(ValueError, match="solver 'heun': turns goes to x0 in one step, expected euler"):
        plan(sampler="turns", solver="heun")


def test_the_options_of_runs_in_stages_reach_their_plans():
    def legs(**options):
        return sampling(DEFAULTS, {"steps": 6, **options}).plan(guided("image"), guided("video"), sigmas)[1]

    sigmas = Schedule.scaled_linear().grid(6)
    chosen = {"guidance": 3.0, "interval": "0.2:0.5", "teacher_weight": 0.4, "teacher_steps": 2, "solver": "heun"}
    drawn = videoguide(sigmas, 3.0, 3.0, 0.4, (0.2, 0.5), 2, solver=Heun())
    cut = {"spatial_cutoff": 0.5, "temporal_cutoff": 0.3}
    assert legs(sampler="videoguide", **chosen, **cut) == renewed(drawn, (0.2, 0.5), LowPass(0.5, 0.3))
    chosen = {"guidance": 3.0, "image_guidance": "2", "image_weight": 0.4, "inversion_guidance": 0.5, "solver": "heun"}
    assert legs(sampler="bivdiff", **chosen) == bivdiff(sigmas, 3.0, GuidanceRamp(2.0), 0.4, 0.5, Heun())


@pytest.mark.parametrize(("name", "method", "how"), [("pag", pag, "identity"), ("stg", stg, "skip")])
def test_a_model_is_guided_by_itself_without_the_layers_that_are_named(name, method, how):
    video, sigmas = guided("video"), Schedule.scaled_linear().grid(4)
    given = {"perturbed_layers": "mid_block, up_blocks.1 ", "perturbed_guidance": 0.7, "guidance": 2.0}
    chosen = sampling(DEFAULTS, {"sampler": name, **given})
    fields, _ = chosen.plan(guided("image"), video, sigmas)
    weak = seen(video.cond, **{how: ("mid_block", "up_blocks.1")})
    x = torch.ones(1, 1, 4, 2, 2, dtype=torch.float64)
    assert torch.equal(fields["video"].at(2.0)(x, 1.0), method(video, weak, 0.7).at(2.0)(x, 1.0))
    chosen = sampling(DEFAULTS, {"sampler": name, "perturbed_layers": "nowhere"})
    with pytest.raises(ValueError, match=r"^perturbed_layers=nowhere: got 'nowhere', expected one of mid_block$"):
        chosen.plan(guided("image"), video, sigmas)


def test_where_the_image_model_cannot_reach_it_takes_no_part():
    network = GaussianNetwork("image", {"": Gaussian(0.0, 1.0), "c": Gaussian(0.5, 0.6)}, reach=(0.5, 5.0))
    image, sigmas = Guided(network(""), network("c")), Schedule.scaled_linear().grid(10)
    x = sigmas[0] * torch.randn(1, 1, 4, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    inside = sum(0.5 <= sigma <= 5.0 for sigma in sigmas.tolist())
    assert 0 < inside < 8
    for name in ("w2sd", "autoguidance"):
        chosen = sampling(DEFAULTS, {"sampler": name, "steps": 10, "solver": "euler"})
        fields, legs = chosen.plan(image, guided("video"), sigmas)
        assert integrate(fields, legs, x).nfe["image"] == inside
    _, legs = sampling(DEFAULTS, {"sampler": "turns", "steps": 10}).plan(image, guided("video"), sigmas)
    turns = [leg.step for leg in legs if leg.network == "image"]
    assert turns == [k for k in range(1, 10, 2) if 0.5 <= sigmas[k] <= 5.0]
    assert turns != list(range(1, 10, 2))


def test_autoguidance_is_the_limit_of_w2sd_as_samplers_too():
    """Both have the same scales; more steps come nearer."""

    def end(steps, name, **options):
        sigmas = Schedule.ve(0.2, 8.0).grid(steps, "uniform-lam")
        chosen = sampling(DEFAULTS, {"sampler": name, "steps": steps, **options})
        fields, legs = chosen.plan(guided("image"), guided("video"), sigmas)
        x = 8 * torch.randn(1, 1, 4, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        return integrate(fields, legs[:-1], x).x

    limit = end(200, "autoguidance", solver="rk4", image_guidance="0.5", contrast=2.0)
    near, nearer = ((end(n, "w2sd", inversion_guidance=0.5) - limit).norm() for n in (100, 200))
    assert near < 0.05 * limit.norm()
    assert nearer < 0.55 * near


@pytest.mark.parametrize(("first", "last", "n"), [(0, 30, 50), (10, 49, 50), (7, 7, 8), (3, 49, 999), (0, 0, 2)])
def test_the_authors_interval_of_steps_is_a_part_of_the_run(first, last, n):
    """As the help says it; every other sampler mixes the same steps."""
    options = {"sampler": "official", "steps": n, "interval": f"{first / n}:{(last + 1) / n}", "period": 3}
    legs = sampling(DEFAULTS, options).plan(guided("image"), guided("video"), torch.empty(0))[1]
    loop = Official("animatediff", n, 2.0, GuidanceRamp(1.0), GuidanceRamp(1.0), (first, last), zz=3)
    assert legs == loop.legs(Official.schedule())
    assert {leg.step for leg in legs if leg.label != "step"} == set(range(first, last + 1))


@cache
def end_of_composite(name, steps):
    x = torch.randn(2, 1, 4, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sigmas = Schedule.scaled_linear().grid(steps, "karras")
    options = {"sampler": "composite", "steps": steps, "solver": name, "spacing": "karras"}
    fields, legs = sampling(DEFAULTS, options).plan(guided("image"), guided("video"), sigmas)
    return integrate(fields, legs, sigmas[0] * x).x


@pytest.mark.parametrize("solver", [name for name in SOLVERS if name not in STOCHASTIC])
def test_every_solver_by_name_comes_near_the_composite_of_a_fine_grid(solver):
    """5 % of the state is far above any solver's error at 40 steps and far below that of a wrong one."""
    truth = end_of_composite("rk4", 400)
    assert (end_of_composite(solver, 40) - truth).norm() < 0.05 * truth.norm()


def test_the_step_to_zero_is_the_options_the_pairs_or_the_instances_own():
    def ends(**given):
        return sampling(DEFAULTS, {"sampler": "composite", **given}).rule.end

    assert DEFAULTS["composite"]["end"] == "euler"
    assert (ends(), ends(end="ab2"), ends(solver="heun"), ends(solver="heun", end="ab2")) == (
        "euler", "ab2", "euler", "ab2",
    )  # fmt: skip
    assert (ends(solver=Heun()), ends(solver=Heun(), end="euler")) == ("ab2", "euler")
    assert sampling({"sampler": "ddim"}, {"steps": 3, "guidance": 2.0, "solver": "heun"}).rule == Heun()
    assert sampling(DEFAULTS, {"sampler": "composite", "solver": "euler"}).rule == Euler()
    with pytest.raises(ValueError, match=r"end 'ab2' has no meaning for solver 'euler', which ends with Euler's"):
        sampling(DEFAULTS, {"sampler": "ddim", "end": "ab2"})


@pytest.mark.parametrize("solver", [name for name in STOCHASTIC if name.startswith("sde-")])
@pytest.mark.parametrize(("pattern", "churn"), [("R-I", 1), ("RV-IV", 1), ("RR-II", 2)])
def test_a_composite_with_noise_is_run_as_the_sde_of_its_pattern(pattern, churn, solver):
    """integrate refuses a composite under a solver of another churn."""
    sigmas = Schedule.scaled_linear().grid(6)
    options = {"sampler": "composite", "steps": 6, "pattern": pattern, "solver": solver}
    fields, legs = sampling(DEFAULTS, options).plan(guided("image"), guided("video"), sigmas)
    assert [leg.solver.churn_at(sigmas[0]) for leg in legs] == [churn] * 6
    x = sigmas[0] * torch.randn(1, 1, 4, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ends = [integrate(fields, legs, x, noise=normal_noise([seed], (1, 4, 2, 2))).x for seed in (1, 2)]
    assert not torch.equal(*ends)
