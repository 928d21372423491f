"""Which solver, on which grid, on trained networks: how far the embedded composite's latents are from the ODE's end.

    python tests/figures/embedded_choice.py [--steps 10 20] [--clips 4] [--reference 150]

An entry is the root mean square difference of the latents, whose standard deviation is about 1, from a run of
`--reference` steps of UniPC2 on "karras" from the same noise; the prompts are captions of the world, spread
evenly over all.
"""

import argparse

from torch import Tensor

from ivmix import TextToVideo
from ivmix.progress import progress_bar
from ivmix.sprites.world import all_captions

SPACINGS = ("trailing", "leading", "karras", "beta", "exponential")
SOLVERS = ({"solver": "dpm++2m", "end": "euler"}, *({"solver": s} for s in ("dpm++2m", "unipc2", "ab2", "ab3", "ab4")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 20])
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--reference", type=int, default=150)
    given = parser.parse_args()
    captions = all_captions()
    model, prompts = TextToVideo.from_pair("sprites"), captions[:: len(captions) // given.clips][: given.clips]

    def latents(spacing: str, steps: int, solver: str, end: str = "ab2") -> Tensor:
        return model(
            prompts, sampler="composite", spacing=spacing, steps=steps, solver=solver, end=end, batch_size=given.clips
        ).latents

    truth, rows = latents("karras", given.reference, "unipc2"), []
    with progress_bar(len(SPACINGS) * len(SOLVERS) * len(given.steps), True, desc="solvers") as bar:
        for spacing in SPACINGS:
            for options in SOLVERS:
                cells = []
                for steps in given.steps:
                    cells.append(f"{(latents(spacing, steps, **options) - truth).square().mean().sqrt().item():10.3f}")
                    bar.update()
                rows.append(f"{spacing:12s} {', end='.join(options.values()):20s}" + "".join(cells))
    print(f"data of standard deviation {truth.std().item():.2f}")
    print(f"{'grid':12s} {'solver':20s}" + "".join(f"{steps:>10d}" for steps in given.steps))
    print("\n".join(rows))


if __name__ == "__main__":
    main()
