"""What real clips are from real ones: the distances that samplers of that many clips cannot get below by chance.

    python tests/figures/real_floor.py FEATURES [--reference FILE] [--protocol chronomagic-umt] [--draws 40]
        [--clips 32,64,128,150,256,300,512,824]

FEATURES is any file that `ivmix distance` reads. Printed are the set's distance from itself, and, by number of clips,
the mean ± deviation over draws of disjoint halves of as many clips, plain and by the protocol, with the unbiased MMD.
With --reference: as many clips as that file has, drawn of FEATURES without those that are in it, against it.

What an unpaired copy scores: the set against itself in another order, whose distance is 0 where all clips are taken.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import Tensor

from ivmix.evaluation import polynomial_mmd
from ivmix.evaluation.distance import without
from ivmix.evaluation.features import FeatureSet, check_same_features
from ivmix.evaluation.protocols import PROTOCOLS

Pair = tuple[Tensor, Tensor]  # real, others


def shown(distance: Callable[[Tensor, Tensor], float], pairs: list[Pair], form: str) -> str:
    """Mean, deviation and range over draws."""
    values = [distance(*pair) for pair in pairs]
    return f"{np.mean(values):{form}} ±{np.std(values, ddof=1):{form}} ({min(values):{form}} to {max(values):{form}})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", type=Path)
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--protocol", choices=PROTOCOLS, default="chronomagic-umt")
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--clips", default="32,64,128,150,256,300,512,824")
    given = parser.parse_args()
    rng, protocol, plain = np.random.default_rng(0), PROTOCOLS[given.protocol], PROTOCOLS["plain"]
    loaded = FeatureSet.load(given.features)
    real = loaded.features.double()

    def line(what: str, pairs: list[Pair], by_protocol: bool = True) -> None:
        print(f"{what:28s} plain {shown(plain.distance, pairs, '.1f')}", end="")
        if by_protocol:
            print(f"; {protocol.name} {shown(protocol.distance, pairs, '.1f')}", end="")
        print(f"; MMD {shown(polynomial_mmd, pairs, '.4f')}", flush=True)

    print(f"{len(real)} clips, features of length {real.shape[1]}")
    print(f"the set from itself: plain {plain.distance(real, real):z.6f}, {protocol.name} "
          f"{protocol.distance(real, real):z.6f}")  # fmt: skip
    few = max(2, given.draws // 10)  # of whole sets, which are dear
    orders = [rng.permutation(len(real)) for _ in range(few)]
    copies = [protocol.distance(real, real[order]) for order in orders]
    print(f"from itself in another order: plain {plain.distance(real, real[orders[0]]):z.6f}, {protocol.name} "
          f"{np.mean(copies):.1f} ±{np.std(copies, ddof=1):.1f} over {few} orders")  # fmt: skip
    if given.reference is not None:
        base = FeatureSet.load(given.reference)
        check_same_features(loaded, base, str(given.features), str(given.reference))
        reference = base.features.double()
        others, n = without(real, reference), len(reference)
        draws = [(reference, others[rng.permutation(len(others))[:n]]) for _ in range(given.draws)]
        line(f"{n} of {len(others)} others", draws)
    for n in map(int, given.clips.split(",")):
        if 2 * n <= len(real):
            halves = [rng.permutation(len(real))[: 2 * n] for _ in range(given.draws)]
            line(f"{n} from {n}", [(real[half[:n]], real[half[n:]]) for half in halves], by_protocol=False)


if __name__ == "__main__":
    main()
