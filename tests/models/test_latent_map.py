"""The learned map between latents: its sizes, its file, and what it refuses."""

import pytest
import torch

from ivmix.models import LatentMap, LatentMapConfig, load_folder, save_folder

FINER, COARSER = LatentMapConfig(4, 3, up=2, width=8, layers=1), LatentMapConfig(3, 4, down=2, width=8, layers=1)


def test_it_changes_channels_and_sides_and_sees_each_frame_alone():
    torch.manual_seed(0)
    z = torch.randn(2, 4, 3, 4, 6)
    finer, coarser = LatentMap(FINER), LatentMap(COARSER)
    assert finer(z).shape == (2, 3, 3, 8, 12)
    assert coarser(finer(z)).shape == z.shape
    assert (finer(z)[:, :, 1:2] - finer(z[:, :, 1:2])).abs().max() <= 1e-6


def test_it_is_kept_in_a_folder(tmp_path):
    network = LatentMap(FINER)
    save_folder(network, tmp_path)
    again = load_folder(LatentMap, LatentMapConfig, tmp_path)
    assert again.config == FINER
    z = torch.randn(1, 4, 2, 4, 4)
    assert torch.equal(again(z), network(z))


def test_what_it_cannot_map_is_told():
    with pytest.raises(ValueError, match="up is 2 and down 2: expected one of them to be 1"):
        LatentMapConfig(4, 3, up=2, down=2)
    with pytest.raises(ValueError, match=r"latents have shape \(1, 3, 2, 5, 4\): expected \(b, 3, .* multiples of 2"):
        LatentMap(COARSER)(torch.zeros(1, 3, 2, 5, 4))
