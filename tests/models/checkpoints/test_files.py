"""Reading files: tensors as stored, mapped and unwrapped, and what is in them said without reading it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ivmix.models.checkpoints import files
from ivmix.models.checkpoints.files import read_metadata, read_state

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones((), dtype=torch.float16), "c": torch.zeros(0, 4)}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("dtype", sorted(map(str, set(files.DTYPES.values()))))
def test_every_dtype_of_safetensors_comes_back(dtype: str, tmp_path: Path) -> None:
    tensor = torch.tensor([0, 1, 1, 0]).to(getattr(torch, dtype.removeprefix("torch.")))
    save_file({"a": tensor}, tmp_path / "a.safetensors")
    assert read_state(tmp_path / "a.safetensors")["a"].view(torch.uint8).equal(tensor.view(torch.uint8))


def test_scalars_and_empty_tensors_come_back_in_both_formats(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "a.safetensors", metadata={"format": "pt", "note": "x"})
    torch.save(STATE, tmp_path / "a.pt")
    for name in ("a.safetensors", "a.pt"):
        assert same(read_state(tmp_path / name), STATE)
        assert same(read_state(str(tmp_path / name)), STATE)
    assert read_metadata(tmp_path / "a.safetensors") == {"format": "pt", "note": "x"}
    assert read_metadata(tmp_path / "a.pt") == {}


def test_tensors_that_share_memory_or_have_strides_come_back_from_a_pickle(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    torch.save({"whole": base, "row": base[1], "turned": base.T, "own": nn.Parameter(base[:2])}, tmp_path / "a.pth")
    state = read_state(tmp_path / "a.pth")
    assert same(state, {"whole": base, "row": base[1], "turned": base.T, "own": base[:2]})
    assert not any(tensor.requires_grad for tensor in state.values())


@pytest.mark.parametrize("wrapped", [STATE, {"state_dict": STATE, "step": 1}, {"module": {"state_dict": STATE}}])
@pytest.mark.parametrize("prefix", ["", "module.", "_forward_module."])
def test_wrappers_and_prefixes_of_trainers_come_off(wrapped: dict[str, object], prefix: str, tmp_path: Path) -> None:
    def renamed(node: object) -> object:
        if node is STATE:
            return {prefix + key: value for key, value in STATE.items()} | {"config": "text", "lr": 0.1}
        return {k: renamed(v) for k, v in node.items()} if isinstance(node, dict) else node

    torch.save(renamed(wrapped), tmp_path / "a.ckpt")
    assert same(read_state(tmp_path / "a.ckpt"), STATE)


def test_a_prefix_that_not_all_keys_have_is_a_name(tmp_path: Path) -> None:
    state = {"module.a": torch.ones(1), "b": torch.ones(1)}
    torch.save(state, tmp_path / "a.ckpt")
    assert same(read_state(tmp_path / "a.ckpt"), state)


def test_a_pickle_that_holds_itself_is_read_once(tmp_path: Path) -> None:
    raw: dict[str, object] = {"a": torch.ones(1)}
    raw["model"] = raw
    torch.save(raw, tmp_path / "a.ckpt")
    assert same(read_state(tmp_path / "a.ckpt"), {"a": torch.ones(1)})


def test_shards_are_read_through_their_index(tmp_path: Path) -> None:
    save_file({"a.weight": STATE["a.weight"]}, tmp_path / "m-1.safetensors")
    save_file({"b": STATE["b"], "c": STATE["c"]}, tmp_path / "m-2.safetensors")
    where = {"a.weight": "m-1.safetensors", "b": "m-2.safetensors", "c": "m-2.safetensors"}
    (tmp_path / "m.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    assert same(read_state(tmp_path / "m.safetensors.index.json"), STATE)
