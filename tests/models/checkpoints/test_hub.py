"""What a repository holds reaches the loader, with and without a network, or one line says why not.

The client is huggingface_hub itself, the server `local_hub`.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
import torch
from local_hub import TOKEN, LocalHub
from safetensors.torch import load_file, save_file
from small_pair import MOTION, write_adapter, write_pipeline
from small_pair import UNET as SPATIAL
from small_t5 import write_text
from torch import nn

from ivmix.cli import main
from ivmix.models import T5Tokenizer, UNet, inspect, load_text_encoder, load_unet, load_vae, read_lora, save_folder
from ivmix.models.checkpoints import hub
from ivmix.models.checkpoints.hub import Hub, MissingError
from ivmix.models.checkpoints.sources import locate, sha256
from ivmix.pairs.description import describe
from ivmix.pairs.model_files import parts_of
from ivmix.pairs.pair import load_pair
from ivmix.pairs.swaps import Swaps, with_swaps

UNET = ["unet/diffusion_pytorch_model.safetensors", "unet/config.json"]
SD, ADAPTER = "stable-diffusion-v1-5/stable-diffusion-v1-5", "guoyww/animatediff-motion-adapter-v1-5-3"


def same(a: nn.Module, b: nn.Module) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline")
    write_pipeline(folder)
    return folder


@pytest.fixture
def copy(pipeline: Path, tmp_path: Path) -> Path:
    return shutil.copytree(pipeline, tmp_path / "copy")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The same networks with other weights."""
    write_pipeline(tmp_path / "other", seed=9)
    return tmp_path / "other"


def downloads(local_hub: LocalHub) -> list[str]:
    return [request.split("/", 5)[-1].partition(" ")[0] for request in local_hub.asked("^GET /.*/resolve/")]


# --- with a network -------------------------------------------------------------------------------------------------


def test_of_a_repository_only_the_config_and_one_weight_file_are_downloaded(local_hub, copy, capsys):
    torch.save({}, copy / "unet" / "diffusion_pytorch_model.bin")
    commit = local_hub.publish("owner/name", copy)
    found = Hub().fetch("hub:owner/name", "unet")
    assert downloads(local_hub) == UNET
    assert [path.read_bytes() for path in found.files] == [(copy / name).read_bytes() for name in UNET]
    assert found.commit == commit
    said, where = capsys.readouterr().err, f"{os.environ['HF_ENDPOINT']}/owner/name"
    assert re.fullmatch(rf"downloading {', '.join(UNET)} \(\d\.\d MB\) from {where}\n", said)


def test_a_warm_start_asks_the_hub_once_for_each_repository_and_downloads_nothing(local_hub, pipeline, capsys):
    local_hub.publish("owner/name", pipeline)
    for _ in range(2):
        capsys.readouterr()
        local_hub.requests.clear()
        asked = Hub()
        for part in ("unet", "vae", "text_encoder", "tokenizer"):
            asked.fetch(f"hub:owner/name/{part}", part)
    assert local_hub.requests == ["GET /api/models/owner/name"]
    assert capsys.readouterr().err == ""


def test_networks_load_from_a_repository_as_from_its_folder(local_hub, pipeline):
    local_hub.publish("owner/name", pipeline)
    assert same(load_unet("hub:owner/name"), load_unet(pipeline))
    assert same(load_unet("hub:owner/name/unet@main"), load_unet(pipeline))
    assert [part.name for part in inspect("hub:owner/name/vae").parts] == ["vae"]


def test_a_single_file_of_a_repository_is_downloaded_alone_but_for_what_scales_it(local_hub, copy):
    shutil.copy(copy / "vae" / "diffusion_pytorch_model.safetensors", copy / "vae.safetensors")
    (copy / "loras").mkdir()
    key = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    weights = {f"{key}.lora_A.weight": torch.ones(2, 32), f"{key}.lora_B.weight": torch.ones(32, 2)}
    save_file(weights, copy / "loras" / "style.safetensors")
    (copy / "loras" / "adapter_config.json").write_text(json.dumps({"lora_alpha": 4, "r": 2}))
    local_hub.publish("owner/name", copy)
    Hub().fetch("hub:owner/name/vae.safetensors", "vae")
    assert downloads(local_hub) == ["vae.safetensors"]
    lora = read_lora("hub:owner/name/loras/style.safetensors")
    ((factors,),) = (part.values() for part in lora.factors.values())
    assert factors.scale == pytest.approx(2.0)
    assert downloads(local_hub)[1:] == ["loras/style.safetensors", "loras/adapter_config.json"]


def sharded(folder: Path) -> str:
    """Puts the VAE's weights into one shard with an index. The shard's name."""
    name, shard = "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model-00001-of-00001.safetensors"
    keys = load_vae(folder).state_dict()
    (folder / "vae" / name).rename(folder / "vae" / shard)
    (folder / "vae" / f"{name}.index.json").write_text(json.dumps({"weight_map": dict.fromkeys(keys, shard)}))
    return f"vae/{shard}"


def test_shards_are_downloaded_with_their_index(local_hub, copy, pipeline):
    shard = sharded(copy)
    local_hub.publish("owner/name", copy)
    assert same(load_vae("hub:owner/name"), load_vae(pipeline))
    assert shard in downloads(local_hub)
    (copy.parent / "versions").mkdir()
    copy.rename(copy.parent / "versions" / "v1.5")
    local_hub.publish("owner/versions", copy.parent / "versions")
    assert same(load_vae("hub:owner/versions/v1.5"), load_vae(pipeline))
    local_hub.stop()
    next(hub.folder("owner/name").rglob(Path(shard).name)).unlink()
    with pytest.raises(MissingError, match=rf"`hf download owner/name {shard}`"):  # an index alone is no weights
        Hub().fetch("hub:owner/name", "vae")


@pytest.mark.slow
def test_just_the_shards_that_the_index_names_are_downloaded_and_announced(local_hub, copy, pipeline, capsys):
    """Whatever they are called, and whatever another upload left behind."""
    shard = copy / sharded(copy)
    index = copy / "vae" / "diffusion_pytorch_model.safetensors.index.json"
    shutil.copy(shard, shard.with_name("diffusion_pytorch_model-00001-of-00003.safetensors"))
    shard = shard.rename(shard.with_name("part_one.safetensors"))
    where = json.loads(index.read_text())["weight_map"]
    index.write_text(json.dumps({"weight_map": dict.fromkeys(where, shard.name)}))
    local_hub.publish("owner/name", copy)
    assert same(load_vae("hub:owner/name"), load_vae(pipeline))
    wanted = [f"vae/{name}" for name in (index.name, "config.json", shard.name)]
    assert downloads(local_hub) == wanted
    said = capsys.readouterr().err
    assert f"downloading {', '.join(wanted[:2])} (" in said
    assert f"downloading {wanted[2]} ({shard.stat().st_size / 1e6:,.1f} MB) from" in said


@pytest.mark.slow
def test_a_t5_s_tokenizer_is_its_spiece_model(local_hub, tmp_path):
    write_text(tmp_path / "published")
    local_hub.publish("owner/t5", tmp_path / "published")
    found = Hub().fetch("hub:owner/t5/tokenizer", "tokenizer")
    assert downloads(local_hub) == ["tokenizer/spiece.model"]
    assert [path.name for path in found.files] == ["spiece.model"]
    assert T5Tokenizer.from_folder(found.root)(["a red cat"])[0][0, :4].tolist() == [3, 4, 7, 1]
    assert locate(tmp_path / "published", "tokenizer").files == (tmp_path / "published" / "tokenizer" / "spiece.model",)


@pytest.mark.slow
def test_shards_that_a_repository_does_not_hold_are_named_at_once(local_hub, copy):
    shard = copy / sharded(copy)
    shard.unlink()
    index = copy / "vae" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}))
    local_hub.publish("owner/name", copy)
    with pytest.raises(FileNotFoundError, match=r"names vae/a\.safetensors, vae/b\.safetensors, which are not there"):
        Hub().fetch("hub:owner/name", "vae")


@pytest.mark.parametrize("revision", ["v2", "refs/pr/5", "commit"])
def test_a_revision_is_what_is_read_with_and_without_a_network(revision, local_hub, pipeline, other, capsys):
    local_hub.publish("owner/name", pipeline)
    commit = local_hub.publish("owner/name", other, revision="v2" if revision == "commit" else revision)
    source = f"hub:owner/name@{commit if revision == 'commit' else revision}"
    Hub().fetch("hub:owner/name", "unet")
    assert Hub().fetch(source, "unet").commit == commit
    assert {part: str(hub.parse(place)) for part, place in parts_of(source, Hub()).items()}["vae"] == (
        source.replace("@", "/vae@")
    )
    local_hub.stop()
    assert f"from {os.environ['HF_ENDPOINT']}/owner/name at {hub.parse(source).revision}\n" in capsys.readouterr().err
    assert Hub().fetch(source, "unet").commit == commit
    assert f"{source}: commit {commit} of the cache" in capsys.readouterr().err
    assert same(load_unet(source), load_unet(other))
    with pytest.raises(MissingError, match=r"hf download owner/name .* --revision v3"):
        Hub().fetch("hub:owner/name@v3", "unet")  # which another revision's files are not


def test_what_a_repository_says_of_its_training_is_pinned_with_its_revision(local_hub, pipeline):
    commit = local_hub.publish("owner/name", pipeline, revision="v2")
    read = load_pair("sprites", "cpu", swaps=Swaps("hub:owner/name@v2")).files["hub:owner/name/scheduler@v2"]
    assert (read["commit"], list(read["files"])) == (commit, ["scheduler_config.json"])


def test_a_repository_brings_the_parts_that_it_has_and_the_pair_the_others(local_hub, pipeline, copy, tmp_path):
    for part in ("vae", "text_encoder", "tokenizer", "scheduler"):
        shutil.rmtree(copy / part)
    local_hub.publish("owner/unet-only", copy)
    local_hub.publish("owner/bare", copy / "unet")
    assert parts_of("hub:owner/unet-only", Hub()) == {"unet": "hub:owner/unet-only/unet"}
    assert parts_of("hub:owner/bare", Hub()) == {"unet": "hub:owner/bare"}
    local_hub.publish("owner/whole", pipeline)
    assert parts_of("hub:owner/whole/unet@main", Hub()) == {
        "unet": "hub:owner/whole/unet@main", "scheduler": "hub:owner/whole/scheduler@main",
    }  # fmt: skip
    pair = describe("animatediff")[0]
    for model in ("unet-only", "bare"):
        new = with_swaps(pair, Swaps(f"hub:owner/{model}", f"hub:owner/{model}"))
        assert (new["vae"], new["image"]["text_encoder"]) == (pair["vae"], pair["image"]["text_encoder"])
        assert "motion" in new["video"]
    save_folder(UNet(replace(SPATIAL, temporal=MOTION)), tmp_path / "joined" / "unet")
    local_hub.publish("owner/joined", tmp_path / "joined")
    assert "motion" not in with_swaps(pair, Swaps(video_model="hub:owner/joined"))["video"]  # it has its own


def test_a_variant_that_is_not_there_is_an_error_or_where_the_pair_names_it_the_plain_file(
    local_hub, pipeline, capsys
):
    local_hub.publish("owner/name", pipeline)
    with pytest.raises(FileNotFoundError, match="no weight file for unet, variant fp16"):
        Hub().fetch("hub:owner/name", "unet", "fp16")
    said = f"hub:owner/name/{UNET[0]}: read in place of what the %s does not hold of variant fp16"
    asked = Hub()
    found = asked.fetch("hub:owner/name", "unet", "fp16", fall_back=True)
    asked.tell_plain()
    assert (found.variant, found.weights.name) == (None, "diffusion_pytorch_model.safetensors")
    assert said % "repository" in capsys.readouterr().err
    local_hub.stop()
    asked = Hub()
    assert asked.fetch("hub:owner/name", "unet", "fp16", fall_back=True) == found
    asked.tell_plain()
    assert said % "cache" in capsys.readouterr().err


def test_a_repository_without_what_is_asked_for_says_what_it_has(local_hub, copy):
    shutil.copy(copy / "vae" / "diffusion_pytorch_model.safetensors", copy / "v1-5.safetensors")
    (copy / "unet" / "config.json").unlink()
    local_hub.publish("owner/name", copy)
    with pytest.raises(FileNotFoundError, match=r"holds no such folder or file, only .*v1-5\.safetensors"):
        load_unet("hub:owner/name/video")
    with pytest.raises(FileNotFoundError, match=f"no unet/config.json: .*, such as hub:owner/name/{UNET[0]}$"):
        load_unet("hub:owner/name/unet")
    with pytest.raises(FileNotFoundError, match=r"hub:owner/name holds no weight file: .*; or name one of text_enc"):
        inspect("hub:owner/name")
    local_hub.stop()
    shutil.rmtree(hub.folder("owner/name"), ignore_errors=True)
    with pytest.raises(MissingError, match=r"hf download owner/name config\.json diffusion_pytorch_model\.safe"):
        inspect("hub:owner/name")


@pytest.mark.parametrize(
    "source", ["hub:name", "hub:", "hub:a/b/../c", "hub:a/b@", "hub:a/b c", "hub:/a/b", "hub:a/b@.."]
)
def test_a_source_that_names_no_repository_is_refused(source):
    with pytest.raises(ValueError, match="expected hub:owner/name"):
        hub.parse(source)


def test_a_name_that_no_hub_allows_is_refused(local_hub):
    with pytest.raises(ValueError, match=r"source hub:a--b/c: .*Cannot have"):
        load_unet("hub:a--b/c")


# --- without one ----------------------------------------------------------------------------------------------------


def test_what_was_downloaded_once_is_read_when_the_network_is_gone(local_hub, pipeline, capsys):
    commit = local_hub.publish("owner/name", pipeline)
    online = Hub().fetch("hub:owner/name/unet", "unet")
    local_hub.stop()
    capsys.readouterr()
    assert Hub().fetch("hub:owner/name/unet", "unet") == online
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"hub:owner/name: commit {commit} of the cache is read ({os.environ['HF_ENDPOINT']}/owner")


def test_a_hub_that_cannot_be_reached_is_not_asked_for_every_repository(local_hub, pipeline):
    local_hub.publish("owner/name", pipeline)
    local_hub.stop()
    asked = Hub()
    with pytest.raises(MissingError, match="Connection refused"):
        asked.fetch("hub:owner/name", "unet")
    local_hub.start()
    with pytest.raises(MissingError, match="Connection refused"):
        asked.fetch("hub:owner/another", "unet")
    assert local_hub.requests == []


def test_the_command_that_a_missing_file_is_answered_with_brings_it(local_hub, pipeline):
    local_hub.publish("owner/name", pipeline)
    local_hub.stop()
    with pytest.raises(MissingError) as caught:
        load_unet("hub:owner/name")
    assert "\n" not in str(caught.value)
    (command,) = re.findall(r"run `(hf download [^`]*)`", str(caught.value))
    local_hub.start()
    hf = [sys.executable, "-m", "huggingface_hub.cli.hf"]
    subprocess.run([*hf, *command.split()[1:]], check=True, capture_output=True)
    local_hub.stop()
    assert same(load_unet("hub:owner/name"), load_unet(pipeline))


def test_the_command_that_shards_and_a_tokenizer_are_answered_with_brings_them(local_hub, tmp_path):
    """As many as there are, whatever kind of tokenizer it is."""
    network = write_text(tmp_path)
    folder = tmp_path / "text_encoder"
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    where = {key: f"model-{k % 3 + 1:05d}-of-00003.safetensors" for k, key in enumerate(state)}
    for name in set(where.values()):
        save_file({key: state[key] for key in state if where[key] == name}, folder / name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    local_hub.publish("owner/t5", tmp_path)
    local_hub.stop()
    for part, sharded in (("text_encoder", True), ("tokenizer", False)):
        with pytest.raises(MissingError) as caught:
            Hub().fetch(f"hub:owner/t5/{part}", part, sharded=sharded)
        local_hub.start()
        hf = [sys.executable, "-m", "huggingface_hub.cli.hf"]
        subprocess.run([*hf, *shlex.split(caught.value.command)[1:]], check=True, capture_output=True)
        local_hub.stop()
    assert same(load_text_encoder("hub:owner/t5"), network)
    assert locate("hub:owner/t5/tokenizer", "tokenizer").files[0].name == "spiece.model"


def test_a_network_that_is_a_repository_of_its_own_is_asked_for_by_its_files_names(local_hub, pipeline):
    local_hub.publish("owner/bare", pipeline / "unet")
    huggingface_hub.hf_hub_download("owner/bare", "config.json")  # the cache knows of it, and lacks the weights
    local_hub.stop()
    with pytest.raises(MissingError, match=r"`hf download owner/bare config\.json diffusion_pytorch_model\.safe"):
        parts_of("hub:owner/bare", Hub())


def test_a_branch_whose_commit_is_not_whole_in_the_cache_gives_way_to_the_newest_that_is(
    local_hub, pipeline, other, capsys
):
    commit = local_hub.publish("owner/name", pipeline)
    Hub().fetch("hub:owner/name/unet", "unet")
    newer = local_hub.publish("owner/name", other)
    huggingface_hub.hf_hub_download("owner/name", "unet/config.json")  # moves the branch, and brings one file of two
    assert hub.ref(hub.parse("hub:owner/name")) == newer
    local_hub.stop()
    assert Hub().fetch("hub:owner/name/unet", "unet").commit == commit
    assert f"commit {commit} of the cache is read" in capsys.readouterr().err


def test_a_branch_that_has_moved_is_what_is_read_without_a_network_too(local_hub, pipeline, other):
    local_hub.publish("owner/name", pipeline)
    huggingface_hub.snapshot_download("owner/name")  # another library's download, of the commit before
    newer = local_hub.publish("owner/name", other)
    assert Hub().fetch("hub:owner/name/unet", "unet").commit == newer
    local_hub.stop()
    assert Hub().fetch("hub:owner/name/unet", "unet").commit == newer


# --- what goes wrong ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_transfer_that_breaks_off_goes_on_where_it_was(local_hub, tmp_path):
    (tmp_path / "large").mkdir()
    file = tmp_path / "large" / "x.safetensors"
    save_file({"x": torch.arange(6_000_000.0)}, file)  # more than the client writes at a time
    local_hub.publish("owner/name", file.parent)
    local_hub.cut("^GET .*/x.safetensors", after=15_000_000)
    assert sha256(Hub().fetch("hub:owner/name/x.safetensors", "vae").weights) == sha256(file)
    first, second = local_hub.asked("^GET .*/x.safetensors")
    assert not first.endswith("-")
    assert re.search(r" bytes=[1-9]\d*-$", second)


def test_a_busy_hub_is_asked_again_and_then_left_for_the_cache(local_hub, pipeline, capsys):
    commit, soon = local_hub.publish("owner/name", pipeline), (0.01, 0.01)
    local_hub.fail("^GET /api", 503)
    assert Hub(pauses=soon).fetch("hub:owner/name", "unet").commit == commit
    assert len(local_hub.asked("^GET /api")) == 2
    local_hub.fail("^GET /api", 429, times=6)
    assert Hub(pauses=soon).fetch("hub:owner/name", "unet").commit == commit
    assert "429" in capsys.readouterr().err
    with pytest.raises(MissingError, match=r"429 Too Many Requests.*lacks vae/config\.json"):
        Hub(pauses=soon).fetch("hub:owner/name", "vae")


def test_what_the_hub_refuses_is_said_with_where_to_go(local_hub, pipeline, monkeypatch):
    local_hub.publish("owner/gated", pipeline)
    local_hub.repositories["owner/gated"].gated = True
    local_hub.publish("owner/private", pipeline)
    local_hub.repositories["owner/private"].private = True
    url = f"{os.environ['HF_ENDPOINT']}/owner"
    for source, message in (
        ("hub:owner/none", f"{url}/none: no such repository, or a private one: check the name, or run `hf auth login`"),
        ("hub:owner/private", f"{url}/private: no such repository, or a private one"),
        ("hub:owner/gated", f"gated: accept its licence at {url}/gated and run `hf auth login`"),
        ("hub:owner/gated@v9", f"{url}/gated has no revision v9"),
    ):
        with pytest.raises(MissingError) as caught:
            load_unet(source)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    for source in ("hub:owner/gated", "hub:owner/private"):
        assert same(load_unet(source), load_unet(pipeline))


def test_a_file_of_another_size_than_was_said_is_refused_and_not_left_behind(local_hub, pipeline):
    local_hub.publish("owner/name", pipeline)
    local_hub.lie("/unet/diffusion_pytorch", size=7)
    with pytest.raises(MissingError, match=r"(?i)size"):
        load_unet("hub:owner/name")
    assert not list(hub.folder("owner/name").glob("snapshots/*/unet/diffusion_pytorch*"))


@pytest.mark.slow
def test_a_disk_too_small_for_a_download_is_one_line(local_hub, tmp_path, small_disk):
    (tmp_path / "large").mkdir()
    save_file({"x": torch.zeros(100_000)}, tmp_path / "large" / "x.safetensors")
    local_hub.publish("owner/name", tmp_path / "large")
    done = subprocess.run(
        [sys.executable, "-m", "ivmix", "inspect", "hub:owner/name/x.safetensors"], capture_output=True, text=True,
        env=os.environ | {"HF_HUB_CACHE": str(small_disk / "hub"), "PYTHONWARNINGS": "ignore"}, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    *_, last = done.stderr.splitlines()
    assert last.startswith("ivmix inspect: error: hub:owner/name/x.safetensors cannot be had")
    assert "No space left on device" in last
    assert "Traceback" not in done.stderr


# --- a whole pair ---------------------------------------------------------------------------------------------------


@pytest.fixture
def published(local_hub: LocalHub, pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalHub:
    """The repositories of `--pair animatediff`, small and random."""
    local_hub.publish(SD, pipeline)
    write_adapter(tmp_path / "adapter")
    local_hub.publish(ADAPTER, tmp_path / "adapter")
    monkeypatch.chdir(tmp_path)
    return local_hub


PAIR = ["sample", "a red cat runs", "--pair", "animatediff", "--frames", "3", "--size", "16x16", "--steps", "4"]


def offline(*commands: list[str]) -> str:
    """`ivmix` without a network, command after command in one process: what they said."""
    program = f"from ivmix.cli import main; raise SystemExit(max(main(typed) for typed in {commands!r}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False,
                          env=os.environ | {"HF_HUB_OFFLINE": "1"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.filterwarnings("default")
def test_a_public_pair_samples_with_a_network_and_without_to_the_same_bytes(published, pipeline, capsys):
    assert main([*PAIR, "-o", "online.gif"]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "of variant fp16" in line]
    assert all(f"{SD}/{part}/" in line for part in ("unet", "text_encoder", "vae"))
    record = json.loads(Path("online.gif.json").read_text())
    commits = {repo: published.repositories[repo].revisions["main"] for repo in (SD, ADAPTER)}
    read = record["files"]
    assert {source: entry["commit"] for source, entry in read.items()} == {
        **{f"hub:{SD}/{part}": commits[SD] for part in ("vae", "unet", "text_encoder", "tokenizer")},
        f"hub:{ADAPTER}": commits[ADAPTER],
    }
    weights = pipeline / "unet" / "diffusion_pytorch_model.safetensors"
    assert read[f"hub:{SD}/unet"]["files"][weights.name] == {"bytes": weights.stat().st_size, "sha256": sha256(weights)}
    published.requests.clear()
    assert main([*PAIR, "-o", "warm.gif", "--quiet"]) == 0
    assert sorted(published.requests) == sorted(f"GET /api/models/{repo}" for repo in (SD, ADAPTER))
    published.stop()
    assert main([*PAIR, "-o", "gone.gif", "--quiet"]) == 0
    said = offline([*PAIR, "-o", "offline.gif", "--quiet"], ["sample", "--from", "online.gif.json", "-o", "again.gif"])
    assert "again.gif.json makes it again" in said
    assert "of the cache is read" not in said
    assert "the record" not in said
    clips = [Path(f"{name}.gif").read_bytes() for name in ("online", "warm", "gone", "offline", "again")]
    assert len(set(clips)) == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_record_is_made_again_from_its_commits_wherever_the_repositories_have_moved(published, other, capsys):
    main([*PAIR, "-o", "a.gif", "--quiet"])
    published.publish(SD, other)
    published.requests.clear()
    assert main(["sample", "--from", "a.gif.json", "-o", "cached.gif", "--quiet"]) == 0
    assert len(published.requests) == 2  # of the commits, which are in the cache
    shutil.rmtree(hub.folder(SD))
    capsys.readouterr()
    assert main(["sample", "--from", "a.gif.json", "-o", "downloaded.gif", "--quiet"]) == 0
    assert "the record" not in capsys.readouterr().err
    assert main([*PAIR, "-o", "moved.gif", "--quiet"]) == 0
    first, cached, downloaded, moved = (Path(f"{n}.gif").read_bytes() for n in ("a", "cached", "downloaded", "moved"))
    assert first == cached == downloaded != moved


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_commit_of_a_record_that_is_gone_is_said(published, other, capsys):
    main([*PAIR, "-o", "a.gif", "--quiet"])
    before = published.repositories[SD].revisions["main"]
    now = published.publish(SD, other)
    del published.repositories[SD].commits[before]
    shutil.rmtree(hub.folder(SD))
    capsys.readouterr()
    assert main(["sample", "--from", "a.gif.json", "-o", "b.gif", "--quiet"]) == 0
    said = capsys.readouterr().err
    assert (f"the record was drawn with another diffusion_pytorch_model.safetensors of hub:{SD}/unet (commit {before}, "
            f"now {now}): the clip differs") in said  # fmt: skip


def test_without_its_files_a_pair_names_every_one_and_what_to_do(local_hub):
    local_hub.stop()
    with pytest.raises(FileNotFoundError) as caught:
        load_pair("animatediff")
    text = str(caught.value)
    for part in ("vae", "unet", "text_encoder"):
        assert f"hf download {SD} {part}/config.json {part}/" in text
    assert f"hf download {ADAPTER} config.json diffusion_pytorch_model.safe" in text
    assert "diffusion_pytorch_model.fp16.safetensors" in text
    assert f"hf download {SD} --include 'tokenizer/*'" in text
    assert "--image-model, --video-model, --motion, --vae and --tokenizer" in text
