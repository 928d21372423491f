"""What a run's options are called and mean: from here come the flags, their help, their checks and the tables.

The samplers, `ivmix.samplers.samplers`, say which of them have an option, of what type and by what default. Nothing
here imports torch: `ivmix sample --help` shows this, and is not to wait.
"""

from dataclasses import dataclass
from typing import Literal

SOLVERS = {
    "euler": "Euler",
    "heun": "Heun",
    "midpoint": "Midpoint",
    "rk4": "RK4",
    "ab2": "AdamsBashforth2",
    "ab3": "AdamsBashforth3",
    "ab4": "AdamsBashforth4",
    "exp-ab2": "ExponentialAB2",
    "dpm2": "DPM2",
    "dpm++2s": "DPMSolverPP2S",
    "dpm++2m": "DPMSolverPP2M",
    "dpm++3m": "DPMSolverPP3M",
    "unipc2": "UniPC2",
    "unipc3": "UniPC3",
    "euler-ancestral": "EulerAncestral",
    "er-sde": "ERSDE3",
    "sde-dpm++2s": "SDEDPMSolverPP2S",
    "sde-dpm++2m": "SDEDPMSolverPP2M",
    "sde-dpm++3m": "SDEDPMSolverPP3M",
    "sde-exp-ab2": "SDEExponentialAB2",
}
"""The class of `ivmix.solvers` that a solver's name stands for; those that draw fresh noise come last."""

SPACINGS = (
    "trailing", "leading", "linspace", "karras", "uniform-lam", "exponential", "dpm-linspace", "dpm-leading", "normal",
    "sgm_uniform", "simple", "beta", "lcm", "linear_quadratic",
)  # fmt: skip
"""Grids by name: those of `ivmix.solvers` but shifted-flow, whose shift is no option."""

Kind = Literal["whole", "number", "text", "ramp", "part"]


@dataclass(frozen=True)
class Option:
    """One option of samplers: what it means, how its value is written in a text, and what alone it may be.

    `kind` is a whole number, a finite number, a text, a ramp of guidance (BEGIN[:END[:RHO]]) or a part of the run
    (A:B). `least`, `most` and `above`, which is not reached, bound numbers, None: not; `choices` are all texts there
    are. `expected` says so in an error where the bounds read badly.
    """

    help: str
    metavar: str | None = None
    kind: Kind = "text"
    choices: tuple[str, ...] | None = None
    least: int | None = None
    most: int | None = None
    above: int | None = None
    expected: str = "a finite number, such as 4"


OPTIONS = {
    "steps": Option("outer steps", "N", "whole", least=1, most=1000),
    "solver": Option(
        "rule of the ordinary steps; euler is DDIM, and from euler-ancestral on they draw fresh noise", "NAME",
        choices=tuple(SOLVERS),
    ),
    "spacing": Option(
        "which levels the steps visit: training levels by diffusers' rules (trailing, leading, linspace; of its "
        "multistep solvers dpm-linspace, dpm-leading), even in sigma^(1/7) (karras) or in log sigma (uniform-lam, also "
        "called exponential), those that latent consistency models are distilled on (lcm), or as ComfyUI has them "
        "(normal, sgm_uniform, simple, beta; linear_quadratic, which is for flows)",
        "NAME", choices=SPACINGS,
    ),
    "end": Option(
        "how a solver of order 2 and more steps to 0: ab2, with the slope it remembers, or euler, as other packages do",
        "NAME", choices=("ab2", "euler"),
    ),
    "guidance": Option("video model's guidance scale; 1 is none", "W", "number"),
    "pattern": Option("letters R, I, V that go up, a dash, I, V that come down: IV-IV (zigzag, composite)", "UP-DOWN"),
    "image_guidance": Option(
        "scale of the image model's legs over the run (zigzag, composite, official), or its own (mixture, switch, "
        "autoguidance, videoelevator, bivdiff, blend, turns, image)",
        "BEGIN[:END[:RHO]]", "ramp",
    ),
    "video_guidance": Option(
        "scale of the video model's legs over the run (zigzag, composite, official)", "BEGIN[:END[:RHO]]", "ramp"
    ),
    "interval": Option(
        "part of the run in which the image model, or the teacher (videoguide), takes part: 0:1 is all of it (zigzag, "
        "composite, mixture, blend, turns; official: "
        "the authors' first and last step, a and b of n, are a/n:(b+1)/n)",
        "A:B", "part",
    ),
    "period": Option(
        "every Nth mixed step has the video model on the I legs too; the authors' zz (zigzag, composite, official)",
        "N", "whole", least=1, most=1000,
    ),
    "sequence": Option(
        "which legs come first (zigzag): down-first, as in the authors' code, or up-first, as in the paper's figure",
        "NAME", choices=("down-first", "up-first"),
    ),
    "image_weight": Option(
        "image model's share (mixture, blend), or that of its noise (bivdiff), 0 to 1", "M", "number", least=0, most=1,
        expected="a share from 0 to 1",
    ),
    "iterations": Option(
        "runs, each from the low frequencies of the last one's clip (freeinit, freqprior)",
        "K", "whole", least=1, most=100,
    ),
    "spatial_cutoff": Option(
        "what is low along rows and columns; 1 is Nyquist's frequency (freeinit, freqprior, videoelevator, "
        "videoguide)",
        "D", "number", above=0,
        expected="a number above 0, such as 0.25; 1 is Nyquist's frequency",
    ),
    "temporal_cutoff": Option(
        "what is low along frames; 1 is Nyquist's frequency (freeinit, freqprior, videoelevator, "
        "videoguide)",
        "D", "number", above=0,
        expected="a number above 0, such as 0.25; 1 is Nyquist's frequency",
    ),
    "detail_guidance": Option("fdg: guidance scale of the finest details, all else having `guidance`", "W", "number"),
    "refinements": Option(
        "videoelevator: how many steps of the image model the video model refines, from a tenth of the run to seven",
        "K", "whole", least=1, most=100,
    ),
    "refining_steps": Option("videoelevator: the video model's steps in each", "N", "whole", least=1, most=1000),
    "inversion_guidance": Option(
        "guidance scale at which a step is undone, the video model's (zsampling) or the image model's (w2sd); of the "
        "video model's clip (videoelevator); or at which both models invert frames (bivdiff)",
        "W", "number",
    ),
    "zigzags": Option(
        "how many first steps are undone and retaken; by itself all but the last (zsampling, w2sd)", "N", "whole",
        least=0,
    ),
    "contrast": Option(
        "autoguidance: how far the video model is pushed away from the image model; 1 is the video model alone",
        "W", "number",
    ),
    "switch_at": Option(
        "switch: the level of noise, sigma, from which down the image model follows the video model", "SIGMA",
        "number", above=0, expected="a level above 0, such as 1",
    ),
    "x0_guidance": Option("cfgpp: scale at which x0 alone is guided, mostly 0 to 1", "W", "number"),
    "teacher_weight": Option(
        "videoguide: how far x0 is drawn towards the teacher's; 0 is not at all", "W", "number"
    ),
    "teacher_steps": Option(
        "videoguide: steps that the teacher takes in each of the guided ones", "N", "whole", least=1, most=1000
    ),
    "perturbed_layers": Option(
        "layers of the video model's UNet by name, or by a part of their names, and with commas between several: what "
        "has identity attention (pag), or is skipped (stg)",
        "NAMES",
    ),
    "perturbed_guidance": Option(
        "how far the video model is pushed away from itself without those layers; 0 is not at all (pag, stg)",
        "W", "number",
    ),
    "variant": Option(
        "which of the authors' loops (official)", "NAME", choices=("animatediff", "modelscope", "videocrafter")
    ),
}  # fmt: skip
"""Every option of any sampler, in the order of the help."""


def describe_samplers() -> dict[str, str]:
    """One line a sampler, in the order of `ivmix.samplers.samplers.SAMPLERS`."""
    return {
        "ddim": "the video model alone",
        "zigzag": "IV-Mixed Sampler as published: five evaluations a step",
        "composite": "the ODE that zigzag converges to: two evaluations a step",
        "mixture": "a convex mixture of both models: two evaluations a step",
        "image": "the image model frame by frame",
        "freeinit": "the video model repeated, from its clip's low frequencies",
        "freqprior": "freeinit, with noise that keeps its variance",
        "fdg": "the video model, fine details guided by a scale of their own",
        "videoelevator": "the image model, refined by the video model on its way",
        "zsampling": "the video model, its steps taken, undone and retaken",
        "w2sd": "the video model, its steps undone by the image model and retaken",
        "autoguidance": "the video model, pushed away from the image model",
        "switch": "the video model, then the image model: one evaluation a step",
        "cfgpp": "the video model, guided in x0 alone (CFG++)",
        "videoguide": "the video model, drawn early on to where its own steps lead",
        "bivdiff": "image frames, inverted and drawn again by the video model",
        "lcm": "the video model's x0, then fresh noise: for few steps",
        "blend": "lcm, with a share of the image model's x0",
        "turns": "lcm, both models taking turns: one evaluation a step",
        "pag": "the video model, pushed away from itself with less attention",
        "stg": "the video model, pushed away from itself with fewer layers",
        "official": "the authors' own loops, quirks included",
    }
