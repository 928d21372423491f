"""`ivmix distance`: files to numbers, for people and for programs; bad files in one line."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from ivmix.cli import main
from ivmix.cli.distance import NAMES
from ivmix.evaluation.features import FeatureSet
from ivmix.evaluation.protocols import PROTOCOLS

pytestmark = pytest.mark.filterwarnings("default")


def rows(n: int, d: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Real clips, and two parts of others in other formats."""
    names = [str(tmp_path / name) for name in ("real.safetensors", "1.npy", "2.pt")]
    FeatureSet(rows(90), tuple(map(str, range(90))), "i3d", "5f3a").save(names[0])
    np.save(names[1], rows(40, seed=1).numpy())
    torch.save(rows(40, seed=2), names[2])
    return names


def test_the_choices_are_the_protocols():
    assert tuple(PROTOCOLS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_value_of_a_program_is_the_protocols(name, files, capsys):
    assert main(["distance", *files, "--protocol", name, "--json"]) == 0
    out = capsys.readouterr()
    found = json.loads(out.out)
    parts = [PROTOCOLS[name].distance(rows(90).double(), rows(40, seed=seed).double()) for seed in (1, 2)]
    assert found["parts"] == pytest.approx(parts)
    assert found["value"] == pytest.approx(sum(parts) / 2)
    assert next(iter(found)) == "value"
    assert (found["real"], found["fake"], found["length"]) == (90, [40, 40], 6)
    assert found["protocol"]["ddof"] == PROTOCOLS[name].ddof
    assert (found["extractor"], found["weights"]) == ("i3d", "5f3a")
    assert found["floor"]["clips"] == 40
    assert found["files"] == {"real": files[0], "fakes": files[1:]}
    assert all(f"warning: {said}" in out.err for said in found["warnings"])


def test_an_evaluation_s_features_are_not_taken_for_one_set(files, tmp_path, capsys):
    """The reference among them would make any row look near it."""
    assert main(["distance", files[1], str(tmp_path), "--protocol", "plain"]) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path} holds real.safetensors, the reference of an evaluation, beside its rows" in said
    assert said.count("\n") == 1


def test_people_read_the_value_its_rule_and_what_belongs_beside_it(files, capsys):
    assert main(["distance", *files, "--protocol", "chronomagic-umt"]) == 0
    out = capsys.readouterr()
    for line in (
        r"chronomagic-umt \d+\.\d{4}  \(mean of \d+\.\d{4}, \d+\.\d{4}\)\n", r"full sets      \d+\.\d{4} ±\S+ \(jackkn",
        r"MMD, unbiased  \S+ ±", r"real from real \d+\.\d{4} ±\S+ over 20 draws of 40 against 50, \d",
        "rule           ÷n, double precision, mean of subsets of 32, .*, 1024 by seeds 12, 22, 32, 42\n",
        "clips          90 real, 40, 40 others, features of length 6\n", "extractor      i3d 5f3a\n",
    ):  # fmt: skip
        assert re.search(line, out.out), line
    assert "warning: 90 real clips and 40, 40 others: subsets are drawn from each side's own range" in out.err


def test_a_reference_too_small_for_a_floor_says_so_and_a_pool_mends_it(files, tmp_path, capsys):
    assert main(["distance", files[1], files[2], "--protocol", "plain"]) == 0
    assert "real from real unknown: it takes twice 40 real clips, or a pool of others; the reference has 40" in (
        capsys.readouterr().out)  # fmt: skip
    assert main(["distance", files[1], files[2], "--protocol", "plain", "--pool", files[0]]) == 0
    assert "over 20 draws of 40 against 40" in capsys.readouterr().out


def test_a_folder_of_parts_of_one_set_is_one_set(files, tmp_path, capsys):
    (tmp_path / "shards").mkdir()
    FeatureSet(rows(90)[:50]).save(tmp_path / "shards" / "a.safetensors")
    np.save(tmp_path / "shards" / "b.npy", rows(90)[50:].numpy())
    values = set()
    for real in (str(tmp_path / "shards"), files[0]):
        assert main(["distance", real, files[1], "--protocol", "plain", "--json"]) == 0
        values.add(json.loads(capsys.readouterr().out)["value"])
    assert values == {PROTOCOLS["plain"].distance(rows(90).double(), rows(40, seed=1).double())}


def test_bad_files_are_one_line_and_status_2(files, tmp_path, capsys):
    FeatureSet(rows(30), extractor="umt").save(tmp_path / "umt.safetensors")
    np.save(tmp_path / "short.npy", rows(30, 5).numpy())
    np.save(tmp_path / "nan.npy", np.full((30, 6), np.nan))
    (tmp_path / "cut.safetensors").write_bytes(Path(files[0]).read_bytes()[:-1])
    (tmp_path / "empty.npy").touch()
    for name, message in {
        "umt.safetensors": f"{files[0]} names extractor i3d, {tmp_path}/umt.safetensors umt: expected one for both",
        "short.npy": f"{files[0]} has features of length 6, {tmp_path}/short.npy of 5: expected one length",
        "nan.npy": f"{tmp_path}/nan.npy: 30 of 30 features hold NaN or infinity: find the clips that gave them",
        "cut.safetensors": f"{tmp_path}/cut.safetensors is not a readable safetensors file: its tensors should have",
        "empty.npy": f"{tmp_path}/empty.npy is not a readable .npy file: ",
        "none.npy": f"no file {tmp_path}/none.npy",
    }.items():
        assert main(["distance", files[0], str(tmp_path / name), "--protocol", "plain"]) == 2
        out = capsys.readouterr()
        assert out.out == ""
        assert out.err.startswith(f"ivmix distance: error: {message}")
        assert out.err.count("\n") == 1
    assert main(["distance", *files, "--protocol", "fvd"]) == 2
    assert "invalid choice: 'fvd'" in capsys.readouterr().err
