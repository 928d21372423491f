"""Our I3D against cd-fvd's, through a file in the public layout: the same logits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ivmix.models import load_i3d

pytestmark = pytest.mark.slow

Agree = Callable[[Tensor, Tensor], None]


@pytest.fixture(scope="module")
def peer() -> Any:
    """Of PyPI's cd-fvd, `pip install --no-deps cd-fvd`: its network needs nothing of what it lists."""
    return pytest.importorskip("cdfvd.third_party.i3d.pytorch_i3d", reason="pip install --no-deps cd-fvd")


@pytest.mark.parametrize("frames", [9, 16])
@pytest.mark.parametrize("bn_eps", [1e-5, 1e-3])
def test_cd_fvd_computes_the_same_logits_from_one_file(
    frames: int, bn_eps: float, peer: Any, agree: Agree, dtype: torch.dtype, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    theirs = peer.InceptionI3d(400, in_channels=3).to(dtype).eval().requires_grad_(False)
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.eps = bn_eps
            for tensor in (module.weight, module.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (module.bias, module.running_mean):
                tensor.normal_(0, 0.3)
        elif isinstance(module, torch.nn.Conv3d):
            module.weight.normal_(0, (2 / module.weight[0].numel()) ** 0.5)
    torch.save(theirs.state_dict(), tmp_path / "i3d_pretrained_400.pt")
    clips = torch.rand(1, 3, frames, 224, 224, dtype=torch.float64).to(dtype) * 2 - 1
    agree(load_i3d(tmp_path / "i3d_pretrained_400.pt", bn_eps=bn_eps)(clips), theirs(clips))
