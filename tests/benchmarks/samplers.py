"""What the samplers cost against plain DDIM-50, paired: every round runs each once, in turn, in one process.

    python tests/benchmarks/samplers.py --rounds 7

Prints, for each sampler, the median over rounds of its time divided by DDIM-50's in the same round, with the range.
"""

import argparse
import statistics
import time

from ivmix import TextToVideo

BASELINE = {"sampler": "ddim", "steps": 50, "solver": "euler"}
SAMPLERS = {
    "ddim-50 again": BASELINE,
    "composite dpm++2m-10": {"sampler": "composite", "steps": 10, "solver": "dpm++2m"},
    "composite dpm++2m-20": {"sampler": "composite", "steps": 20, "solver": "dpm++2m"},
    "mixture dpm++2m-20": {"sampler": "mixture", "steps": 20, "solver": "dpm++2m"},
    "zigzag-20": {"sampler": "zigzag", "steps": 20, "solver": "euler"},
    "zigzag-50": {"sampler": "zigzag", "steps": 50, "solver": "euler"},
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--pair", default="sprites")
    options = arguments.parse_args()
    model = TextToVideo.from_pair(options.pair)

    def seconds(call: dict) -> float:
        began = time.perf_counter()
        model("a red circle moving left", **call)
        return time.perf_counter() - began

    seconds(BASELINE | {"steps": 2})  # first calls choose kernels and allocate
    ratios: dict[str, list[float]] = {name: [] for name in SAMPLERS}
    baseline = []
    for _ in range(options.rounds):
        baseline.append(seconds(BASELINE))
        for name, call in SAMPLERS.items():
            ratios[name].append(seconds(call) / baseline[-1])
    print(f"ddim-50: {statistics.median(baseline):.2f} s a clip, median of {options.rounds}")
    print("| sampler | time / ddim-50 | range |\n|---|---|---|")
    for name, values in ratios.items():
        print(f"| {name} | {statistics.median(values):.2f} | {min(values):.2f} - {max(values):.2f} |")


if __name__ == "__main__":
    main()
