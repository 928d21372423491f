"""Our text encoder and tokenizer against transformers': small random networks, byte pairs trained here."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hard_texts import NASTY, mixtures
from safetensors.torch import load_file
from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers, pre_tokenizers, trainers
from torch import Tensor

from ivmix.models import CLIPText, CLIPTextConfig, Tokenizer, load_folder, save_folder

pytestmark = pytest.mark.slow

Agree = Callable[[Tensor, Tensor], None]

CONFIGS = [
    CLIPTextConfig(40, 32, 64, 3, 4, 77, "quick_gelu"),  # as ViT-L/14
    CLIPTextConfig(40, 48, 96, 2, 3, 77, "gelu"),  # as OpenCLIP ViT-H/14
]


@pytest.fixture(params=CONFIGS, ids=lambda config: config.hidden_act)
def config(request: pytest.FixtureRequest) -> CLIPTextConfig:
    return request.param


@pytest.fixture
def tokens() -> Tensor:
    """Two full rows and one that is all padding after its first words."""
    ids = torch.randint(40, (3, 77), generator=torch.Generator().manual_seed(0))
    ids[2, 5:] = 39
    return ids


def build(transformers: ModuleType, config: CLIPTextConfig) -> Any:
    raw = transformers.CLIPTextConfig(**asdict(config), bos_token_id=38, eos_token_id=39, pad_token_id=39)
    return transformers.CLIPTextModel(raw)


def test_transformers_opens_our_encoder_and_computes_the_same(
    config: CLIPTextConfig, transformers: ModuleType, opened: Callable[..., Any],
    randomised: Callable[..., CLIPText], tokens: Tensor, agree: Agree, dtype: torch.dtype, tmp_path: Path,
) -> None:  # fmt: skip
    ours = randomised(CLIPText(config), dtype=dtype)
    save_folder(ours, tmp_path)
    theirs = opened(transformers.CLIPTextModel, tmp_path, dtype=dtype)
    for length in (77, 9):
        agree(ours(tokens[:, :length]), theirs(tokens[:, :length]).last_hidden_state)


@pytest.mark.parametrize("prefixed", [False, True])
def test_we_open_transformers_encoder_and_compute_the_same(
    prefixed: bool, config: CLIPTextConfig, transformers: ModuleType, opened: Callable[..., Any],
    randomised: Callable[..., Any], tokens: Tensor, agree: Agree, dtype: torch.dtype, tmp_path: Path,
) -> None:  # fmt: skip
    """transformers 5 saves a model under the names it was opened with: `text_model.` in public files, bare if built."""
    theirs = randomised(build(transformers, config), dtype=dtype)
    if prefixed:
        save_folder(randomised(CLIPText(config), dtype=dtype), tmp_path / "public")
        theirs = opened(transformers.CLIPTextModel, tmp_path / "public", dtype=dtype)
    theirs.save_pretrained(tmp_path / "saved")
    assert all(k.startswith("text_model.") for k in load_file(tmp_path / "saved" / "model.safetensors")) or not prefixed
    ours = load_folder(CLIPText, CLIPTextConfig, tmp_path / "saved")
    assert ours.config == config
    agree(ours(tokens), theirs(tokens).last_hidden_state)


@pytest.mark.parametrize("clip_skip", [1, 2, 3])
def test_clip_skip_is_diffusers_clip_skip_plus_one(
    clip_skip: int, transformers: ModuleType, randomised: Callable[..., Any], tokens: Tensor, agree: Agree,
    dtype: torch.dtype, tmp_path: Path,
) -> None:  # fmt: skip
    """diffusers takes hidden_states[-(n + 1)] for its clip_skip n and applies the final norm."""
    theirs = randomised(build(transformers, CONFIGS[0]), dtype=dtype)
    theirs.save_pretrained(tmp_path)
    states = theirs(tokens, output_hidden_states=True).hidden_states
    norm = next(module for name, module in theirs.named_modules() if name.endswith("final_layer_norm"))
    agree(load_folder(CLIPText, CLIPTextConfig, tmp_path)(tokens, clip_skip), norm(states[-clip_skip]))


def test_a_file_with_one_layer_less_is_the_penultimate_output(
    transformers: ModuleType, randomised: Callable[..., Any], tokens: Tensor, agree: Agree, dtype: torch.dtype,
    tmp_path: Path,
) -> None:  # fmt: skip
    """Public ViT-H/14 files hold 23 of 24 layers: their output is the 23rd layer's, through the final norm."""
    config = CONFIGS[1]
    theirs = randomised(build(transformers, replace(config, num_hidden_layers=3)), dtype=dtype)
    theirs.save_pretrained(tmp_path)
    state = {f"text_model.{k.removeprefix('text_model.')}": v for k, v in theirs.state_dict().items()}
    ours = CLIPText(config).to(dtype).requires_grad_(False)
    ours.load_state_dict({k: v for k, v in state.items() if "layers.2." not in k})
    penultimate = theirs(tokens, output_hidden_states=True).hidden_states[-2]
    norm = {k.split(".")[-1]: v for k, v in state.items() if ".final_layer_norm." in k}
    agree(ours(tokens), torch.nn.functional.layer_norm(penultimate, (48,), norm["weight"], norm["bias"], 1e-5))


def clip_folder(folder: Path, pad: str | None) -> Path:
    """Byte pairs trained on the very strings above, in the files that Stable Diffusion's repositories have."""
    backend = Backend(models.BPE(end_of_word_suffix="</w>"))
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=900, initial_alphabet=letters, end_of_word_suffix="</w>", show_progress=False
    )
    backend.train_from_iterator(NASTY, trainer)
    trained = json.loads(backend.to_str())["model"]
    # CLIP's order: letters, letters that end a word, merges, begin, end; "!" is 0, and is ViT-H/14's padding.
    merges = [tuple(merge) for merge in trained["merges"]]
    words = dict.fromkeys([*letters, *(f"{x}</w>" for x in letters), *("".join(m) for m in merges)])
    words |= dict.fromkeys(["<|startoftext|>", "<|endoftext|>"])
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    special = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    begin, end = ({"content": f"<|{name}oftext|>", **special} for name in ("start", "end"))
    config = {"bos_token": {"__type": "AddedToken", **begin}, "eos_token": {"__type": "AddedToken", **end}}
    config |= {"add_prefix_space": False, "do_lower_case": True, "model_max_length": 77, "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "tokenizer_class": "CLIPTokenizer"}))
    if pad is not None:
        specials = {"bos_token": begin, "eos_token": end, "unk_token": end, "pad_token": pad}
        (folder / "special_tokens_map.json").write_text(json.dumps(specials))
    return folder


@pytest.fixture(scope="module", params=[None, "<|endoftext|>", "!"], ids=["plain", "as ViT-L", "as ViT-H"])
def both(
    request: pytest.FixtureRequest, transformers: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[Tokenizer, Any]]:
    """Ours and theirs, from vocab.json and merges.txt, and from the tokenizer.json that transformers 5 writes."""
    public = clip_folder(tmp_path_factory.mktemp("public"), request.param)
    saved = tmp_path_factory.mktemp("saved")
    transformers.CLIPTokenizer.from_pretrained(public).save_pretrained(saved)
    assert (saved / "tokenizer.json").is_file()
    return [(Tokenizer.from_folder(f, 77), transformers.CLIPTokenizer.from_pretrained(f)) for f in (public, saved)]


def check_equal(both: list[tuple[Tokenizer, Any]], texts: list[str]) -> None:
    for ours, theirs in both:
        expected = theirs(texts, padding="max_length", truncation=True, max_length=77).input_ids
        for text, row, ids in zip(texts, ours(texts).tolist(), expected, strict=True):
            assert row == ids, repr(text)


@pytest.mark.filterwarnings("ignore:a prompt is longer")
def test_nasty_prompts_have_the_ids_transformers_gives_them(both: list[tuple[Tokenizer, Any]]) -> None:
    check_equal(both, NASTY)


@pytest.mark.filterwarnings("ignore:a prompt is longer")
def test_any_mixture_of_unicode_has_the_ids_transformers_gives_it(both: list[tuple[Tokenizer, Any]]) -> None:
    check_equal(both, mixtures(2000))


def test_the_padding_is_the_public_one(both: list[tuple[Tokenizer, Any]]) -> None:
    for ours, theirs in both:
        assert ours.pad == theirs.pad_token_id
        assert (ours.pad == 0) == (theirs.pad_token == "!")
