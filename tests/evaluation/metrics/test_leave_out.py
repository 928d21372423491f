"""What is computed once for all rows gives the distances of any of them."""

import numpy as np
import pytest
import torch

from ivmix.evaluation import frechet_of_features, polynomial_mmd
from ivmix.evaluation.metrics import leave_out
from ivmix.evaluation.metrics.leave_out import frechet_of_kept, mmd_of_kept


@pytest.mark.parametrize(("m", "n", "d"), [(60, 50, 8), (60, 9, 12), (9, 60, 12), (9, 9, 30), (9, 10, 30)])
def test_distances_of_what_is_kept_are_those_of_these_rows_alone(m, n, d):
    rng = np.random.default_rng(0)
    real, rows = torch.from_numpy(rng.normal(size=(m, d)) + 30), torch.from_numpy(2 * rng.normal(size=(n, d)) + 31)
    mmd = mmd_of_kept(real, rows)
    for kept in (np.arange(n), np.arange(n)[1:], np.arange(n - 3, 2, -1), np.array([5, 0, 3])):
        for ddof in (0, 1):
            expected = frechet_of_features(real, rows[kept], ddof)
            assert frechet_of_kept(real, rows, ddof)(kept) == pytest.approx(expected, rel=1e-7)
        assert mmd(kept) == pytest.approx(polynomial_mmd(real, rows[kept]), rel=1e-7)


def test_a_kernel_in_pieces_is_the_kernel():
    rows = torch.arange(40.0, dtype=torch.float64).reshape(20, 2).sin()
    kernel = (rows @ rows.T / 2 + 1) ** 3
    expected = kernel.sum(1) - kernel.diagonal()
    assert torch.allclose(leave_out._others(rows), expected)
    assert [len(part) for part in leave_out._parts(rows, leave_out.CHUNK // 8)] == [8, 8, 4]
