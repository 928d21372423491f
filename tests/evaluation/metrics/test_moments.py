"""Accumulated moments are those of all features at once, however these were cut, ordered, stored or spread."""

import multiprocessing
import os
import subprocess
import sys
from datetime import timedelta
from functools import reduce
from itertools import pairwise
from operator import add
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from ivmix.evaluation import Moments, frechet_distance, gather

N, D = 90, 12


def features(n: int = N, d: int = D, seed: int = 0, offset: float = 0.0) -> torch.Tensor:
    """Correlated and skewed, so that no entry of a covariance is zero by accident."""
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn(n, d, generator=generator, dtype=torch.float64)
    return draw @ torch.randn(d, d, generator=generator, dtype=torch.float64) + draw.square() + offset


REFERENCE = Moments.of(features(seed=9))


@pytest.mark.parametrize("cuts", [[1], [45], [1, 2, 3], [10, 10, 40, 89], [0, 90], list(range(1, N))])
def test_any_partition_in_any_order_gives_the_same_distance(cuts):
    x = features()
    whole = frechet_distance(Moments.of(x), REFERENCE)
    edges = [0, *cuts, N]
    parts = [Moments.of(x[i:j]) for i, j in pairwise(edges)]
    order = torch.randperm(len(parts), generator=torch.Generator().manual_seed(len(cuts)))
    for merged in (reduce(add, parts), reduce(add, [parts[k] for k in order]), balanced(parts)):
        assert merged.count == N
        assert frechet_distance(merged, REFERENCE) == pytest.approx(whole, abs=1e-9)


def balanced(parts: list[Moments]) -> Moments:
    """A tree of merges instead of a chain."""
    middle = len(parts) // 2
    return parts[0] if len(parts) == 1 else balanced(parts[:middle]) + balanced(parts[middle:])


def test_moments_are_those_of_numpy():
    x = features()
    moments = Moments.of(x[:7]) + Moments.of(x[7:])
    np.testing.assert_allclose(moments.mean, x.numpy().mean(0), rtol=1e-13)
    for ddof in (0, 1):
        np.testing.assert_allclose(moments.covariance(ddof), np.cov(x.numpy().T, ddof=ddof), rtol=1e-12, atol=1e-12)


def test_an_offset_of_a_thousand_loses_nothing():
    """Entries near 1e3 carry an ulp of 1e-13: covariances of order 10 keep twelve digits. Sums of squares about the
    origin, in float32 as features come, keep one or two."""
    near, far = (reduce(add, [Moments.of(x) for x in features(offset=o).split(16)]) for o in (0.0, 1e3))
    np.testing.assert_allclose(far.covariance(), near.covariance(), rtol=0, atol=1e-11)
    single = features(offset=1e3).float()
    naive = (single.T @ single - N * torch.outer(single.mean(0), single.mean(0))) / (N - 1)
    assert (naive - near.covariance()).abs().max() > 0.1


@pytest.mark.parametrize("kind", [torch.float32, torch.float16, "numpy", "read-only"])
def test_whatever_the_features_come_in_is_accumulated_in_float64(kind):
    x = features()
    given = x.to(kind).requires_grad_() if isinstance(kind, torch.dtype) else x.numpy()
    if kind == "read-only":  # as memory-mapped features are
        given.flags.writeable = False
    moments = Moments.of(given)
    expected = x.to(kind).double() if isinstance(kind, torch.dtype) else x
    assert moments.mean.dtype == moments.scatter.dtype == torch.float64
    assert not moments.scatter.requires_grad
    torch.testing.assert_close(moments.mean, expected.mean(0), rtol=1e-14, atol=0)


def test_a_file_holds_every_bit(tmp_path):
    moments = Moments.of(features())
    moments.save(tmp_path / "m.safetensors")
    again = Moments.load(tmp_path / "m.safetensors")
    assert again.count == N
    assert torch.equal(again.mean, moments.mean)
    assert torch.equal(again.scatter, moments.scatter)
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_a_file_of_anything_else_is_refused(tmp_path):
    from safetensors.torch import save_file

    good = {"count": torch.tensor(3), "mean": torch.zeros(2).double(), "scatter": torch.zeros(2, 2).double()}
    for name, bad in {
        "holds mean, scatter": {k: v for k, v in good.items() if k != "count"},
        "expected \\(d,\\) and \\(d, d\\)": {**good, "scatter": torch.zeros(3, 2).double()},
        "float32": {**good, "mean": torch.zeros(2)},
        "NaN": {**good, "mean": torch.full((2,), torch.nan).double()},
    }.items():
        save_file(bad, tmp_path / "bad.safetensors")
        with pytest.raises(ValueError, match=name):
            Moments.load(tmp_path / "bad.safetensors")
    torch.save(good, tmp_path / "bad.safetensors")
    with pytest.raises(ValueError, match=r"bad\.safetensors"):
        Moments.load(tmp_path / "bad.safetensors")
    with pytest.raises(FileNotFoundError):
        Moments.load(tmp_path / "none.safetensors")


@pytest.mark.parametrize("shape", [(4,), (4, 2, 2)])
def test_features_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="expected \\(n, d\\)"):
        Moments.of(torch.zeros(shape))


def test_features_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="features holds NaN"):
        Moments.of(torch.tensor([[1.0, torch.inf]]))


def test_moments_of_other_features_are_not_merged():
    with pytest.raises(ValueError, match="of 12 and of 3 features"):
        Moments.of(features()) + Moments.of(features(d=3))


def test_one_feature_has_no_sample_covariance():
    with pytest.raises(ValueError, match="more than ddof = 1"):
        Moments.of(features(n=1)).covariance()


def test_without_a_process_group_gathering_changes_nothing():
    assert gather(REFERENCE) is REFERENCE


def test_ranks_agree_to_the_bit_and_with_one_process(tmp_path):
    """Real processes over gloo, at world sizes 1, 2 and 3; at 3 the last rank has no clips at all."""
    command = [sys.executable, __file__, str(tmp_path)]
    threads = os.environ | {"OMP_NUM_THREADS": "1"}  # a fork of a process whose OpenMP has more waits for them for ever
    result = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=120, check=False, env=threads)
    assert result.returncode == 0, result.stderr
    whole = frechet_distance(Moments.of(features()), REFERENCE)
    for world in (1, 2, 3):
        found = [Moments.load(tmp_path / f"{world}-{rank}.safetensors") for rank in range(world)]
        assert all(m.count == N and torch.equal(m.scatter, found[0].scatter) for m in found)
        assert frechet_distance(found[0], REFERENCE) == pytest.approx(whole, abs=1e-9)


def run_rank(rank: int, folder: Path) -> None:
    x = features()
    for world in range(rank + 1, 4):
        store, patience = f"file://{folder}/store-{world}", timedelta(seconds=60)
        dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world, timeout=patience)
        mine = x[rank::world] if world < 3 else (x[:50], x[50:], x[:0])[rank]
        gather(Moments.of(mine)).save(folder / f"{world}-{rank}.safetensors")
        if world > 1:  # every rank hears of it: one that did not would wait for the others for ever
            with pytest.raises(ValueError, match="cannot be merged"):
                gather(Moments.of(torch.zeros(2, 2 + rank)))
        dist.destroy_process_group()


if __name__ == "__main__":  # one import of torch for all ranks
    fork = multiprocessing.get_context("fork")
    ranks = [fork.Process(target=run_rank, args=(rank, Path(sys.argv[1]))) for rank in range(3)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    sys.exit(any(process.exitcode for process in ranks))
