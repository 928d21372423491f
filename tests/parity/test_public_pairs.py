"""Every public pair as a user types it: files with the published keys, narrower networks, no network but these files.

The files are those of tests/figures/public_pairs.py, which runs the same at full size.
"""

import importlib.util
import json
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image, ImageStat

from ivmix.models import load_text_encoder, load_unet, load_vae
from ivmix.models.checkpoints import hub
from ivmix.pairs.description import PUBLIC, describe, read_weighted

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parent.parent / "figures" / "public_pairs.py"
spec = importlib.util.spec_from_file_location("public_pairs", SCRIPT)
assert spec is not None
assert spec.loader is not None
public_pairs = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = public_pairs
spec.loader.exec_module(public_pairs)


def sample(root: Path, arguments: list[str]) -> Any:
    """`ivmix sample` of two small frames into out.gif, without a network; what is below `root` is the hub's cache."""
    size = ["--frames", "2", "--size", "64x64", "--steps", "4"]
    return public_pairs.run(["sample", *arguments, "-o", str(root / "out.gif"), *size], root)[0]


@pytest.mark.parametrize("name", public_pairs.CASES)
def test_a_public_pair_samples_from_its_public_files(name: str, tmp_path: Path) -> None:
    case = public_pairs.CASES[name]
    case.write(tmp_path, small=True)
    done = sample(tmp_path, case.arguments(tmp_path)[1:])
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    record = json.loads((tmp_path / "out.gif.json").read_text())
    assert record["pair"] == case.pair
    assert record["nfe"].keys() == {"image", "video"}  # both took part
    assert record["swaps"] == {
        option.removeprefix("--").replace("-", "_"): str(tmp_path / place) for option, place in case.options.items()
    }
    clip = Image.open(tmp_path / "out.gif")
    assert clip.n_frames == 2
    assert ImageStat.Stat(clip.convert("L")).stddev[0] > 5  # a picture: neither one colour nor what NaN would leave


def test_diffusers_reads_sdxls_single_file_to_the_same_weights(diffusers: ModuleType, tmp_path: Path) -> None:
    """Its `from_single_file`, with configs beside; ours tells them from the file."""
    for file in (public_pairs.SDXL_FILE, *public_pairs.sdxl("base/")):
        file.write(tmp_path, small=True)
    file = tmp_path / public_pairs.SDXL_FILE.path
    for name, pad in (("tokenizer", public_pairs.L), ("tokenizer_2", public_pairs.H)):
        public_pairs.write_tokenizer(tmp_path / "base" / name, pad, public_pairs.VOCABULARY[True])
    (tmp_path / "base" / "scheduler").mkdir()
    diffusers.EulerDiscreteScheduler().save_pretrained(tmp_path / "base" / "scheduler")
    classes = {
        "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "EulerDiscreteScheduler"], "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": ["transformers", "CLIPTokenizer"], "tokenizer_2": ["transformers", "CLIPTokenizer"],
    }  # fmt: skip
    index = {"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": True, **classes}
    (tmp_path / "base" / "model_index.json").write_text(json.dumps(index))
    theirs = diffusers.StableDiffusionXLPipeline.from_single_file(
        str(file), config=str(tmp_path / "base"), local_files_only=True, torch_dtype=torch.float16
    )
    ours = {
        "unet": load_unet(file), "vae": load_vae(file), "text_encoder": load_text_encoder(file),
        "text_encoder_2": load_text_encoder(file, part="text_encoder_2"),
    }  # fmt: skip
    assert ours["vae"].config.scaling_factor == 0.13025  # type: ignore[union-attr]
    for name, network in ours.items():
        state = {key.removeprefix("text_model."): value for key, value in network.state_dict().items()}
        peer = {key.removeprefix("text_model."): v for key, v in getattr(theirs, name).state_dict().items()}
        assert state.keys() == peer.keys()
        assert all(torch.equal(value, peer[key].reshape(value.shape)) for key, value in state.items())


# --- without the files ----------------------------------------------------------------------------------------------


def files(name: str) -> dict[str, set[str]]:
    """What a public pair needs from each repository: the folder or file of every source."""
    raw, _, _ = describe(name)
    sources = [raw["vae"], *(str(v) for side in (raw["image"], raw["video"]) for v in side.values())]
    places = [hub.parse(read_weighted(source)[0]) for source in sources if source.startswith("hub:")]
    return {place.repo: {other.path for other in places if other.repo == place.repo} for place in places}


def named(error: str) -> dict[str, set[str]]:
    """What the commands of an error would download: by repository, folders, or files of the repository itself."""
    words = [shlex.split(line, comments=True) for line in error.splitlines() if line.startswith("  hf download ")]
    found: dict[str, set[str]] = {}
    for _, _, repository, *paths in words:
        names = [path.rpartition("/")[0] or path for path in paths if path != "--include"]
        found.setdefault(repository, set()).update(names)
    return found


@pytest.mark.parametrize("name", PUBLIC)
def test_without_its_files_a_pair_names_them_all_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    done = sample(tmp_path, ["a cat", "--pair", name])
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "HF_HUB_OFFLINE is set" in done.stderr
    assert "--image-model, --video-model, --motion, --vae and --tokenizer" in done.stderr
    raw = describe(name)[0]
    variant = raw["files"].get(raw["video"].get("motion"), {}).get("variant")
    weights = f"diffusion_pytorch_model{'.' + variant if variant else ''}.safetensors"
    adapter = {"config.json", weights}  # of a repository that is one folder
    assert named(done.stderr) == {
        repository: set().union(*({path} if path else adapter for path in paths))
        for repository, paths in files(name).items()
    }
    assert list(tmp_path.iterdir()) == []


SD, MOTION, MS = public_pairs.SD, public_pairs.MOTION, public_pairs.MS
MODULES = {MOTION: {"config.json", "diffusion_pytorch_model.safetensors"}}


@pytest.mark.parametrize(
    ("pair", "options", "missing"),
    [
        ("animatediff", {"--image-model": "sd15"}, {SD: {"unet", "text_encoder", "tokenizer", "vae"}} | MODULES),
        ("animatediff", {"--image-model": "sd15", "--video-model": "sd15"}, {SD: {"vae"}} | MODULES),
        (
            "animatediff",
            {"--video-model": "v1-5-pruned-emaonly.safetensors", "--motion": "v3_sd15_mm.ckpt"},
            {SD: {"unet", "text_encoder", "tokenizer"}},
        ),
        ("modelscope", {"--image-model": "sd15"}, {MS: {"unet", "text_encoder", "tokenizer", "vae"}}),
        ("modelscope", {"--image-model": "sd15", "--vae": "vae"}, {MS: {"unet", "text_encoder", "tokenizer"}}),
        ("videocrafter2", {"--image-model": "sd15"}, {"VideoCrafter/VideoCrafter2": {"model.ckpt"}, MS: {"tokenizer"}}),
    ],
)
def test_with_half_of_its_models_a_pair_names_what_is_still_missing(
    pair: str, options: dict[str, str], missing: dict[str, set[str]], half: Path, tmp_path: Path
) -> None:
    given = [text for option, place in options.items() for text in (option, str(half / place))]
    done = sample(tmp_path, ["a cat", "--pair", pair, *given])
    assert done.returncode == 2
    assert named(done.stderr) == missing
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of some models: an image model's folder and file, motion modules, a VAE."""
    root: Path = tmp_path_factory.mktemp("half")
    case = public_pairs.CASES["animatediff-paper"]
    for file in [*public_pairs.SPATIAL, *case.files]:
        file.write(root, small=True)
    public_pairs.write_tokenizer(root / "sd15" / "tokenizer", public_pairs.L, public_pairs.VOCABULARY[True])
    return root
