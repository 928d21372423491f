"""Files from strangers, or changed by hand, through the command: one line each that names what is wrong.

As a program, `python tests/pairs/test_strangers_files.py FOLDER`, this runs every command of the table in one process
under a limit of memory, and prints what each said; the tests start it once. It builds a pair of the smallest networks,
and a case changes one of its files, or writes one of its own.
"""

import contextlib
import io
import json
import os
import pickle
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

MEMORY = 3_000_000_000  # bytes of data that the process may have; torch's own start takes a third
SECONDS = 240
PROMPT = "a red circle"
WORDS = ("a", "red", "circle")
BOS, EOS = "<|startoftext|>", "<|endoftext|>"
WEIGHTS = "diffusion_pytorch_model.safetensors"
UNET, VAE, TEXT = "image/unet/config.json", "vae/config.json", "text/config.json"
VIDEO, BYTES = "video/unet/config.json", "bytes/tokenizer.json"
SCHEDULER = "image/scheduler/scheduler_config.json"
DEEP = b"[" * 100_000
BETAS = {"_class_name": "DDIMScheduler", "beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02,
         "num_train_timesteps": 1000, "prediction_type": "epsilon", "trained_betas": None,
         "rescale_betas_zero_snr": False}  # fmt: skip
DROP = object()  # as a change: the entry is taken out

Change = bytes | Mapping[str, Any] | Callable[[Path], object]


class Case(NamedTuple):
    """`change` is a file's new bytes, the entries of its JSON that change ("a.b" inside a), or writes it."""

    file: str
    change: Change
    words: str  # of the one line, as a regular expression


# --- a small sound pair and other sound files -----------------------------------------------------------------------


def make(folder: Path) -> None:
    """A pair, a tokenizer of bytes, a record, a LoRA, a file of weights, arms, prompts and a clip."""
    import torch
    from PIL import Image
    from safetensors.torch import save_file

    from ivmix import TextToVideo
    from ivmix import models as m

    torch.manual_seed(0)
    image = m.UNetConfig(
        block_out_channels=(8,), attention_levels=(True,), layers_per_block=1, cross_attention_dim=8,
        num_attention_heads=2, norm_num_groups=4,
    )  # fmt: skip
    video = m.UNetConfig(**{**vars(image), "temporal": m.MotionConfig(2, 4)})
    m.save_folder(m.UNet(image), folder / "image" / "unet")
    m.save_folder(m.UNet(video), folder / "video" / "unet")
    (folder / SCHEDULER).parent.mkdir()
    (folder / SCHEDULER).write_text(json.dumps(BETAS))
    m.save_folder(m.VAE(m.VAEConfig(3, 3, 4, (8,), 1, 4)), folder / "vae")
    m.save_folder(m.CLIPText(m.CLIPTextConfig(len(WORDS) + 2, 8, 16, 1, 2, 8)), folder / "text")
    m.Tokenizer.from_words(WORDS, 8).save(folder / "tokenizer")
    side = {"text_encoder": "text", "tokenizer": "tokenizer", "schedule": {"kind": "linear"}, "prediction": "epsilon"}
    pair = {
        "format": 1, "name": "small", "vae": "vae", "image": {"unet": "image/unet", **side},
        "video": {"unet": "video/unet", **side}, "frames": 2, "height": 8, "width": 8, "fps": 8,
        "defaults": {"sampler": "ddim", "negative_prompt": "", "ddim": {"steps": 1, "guidance": 1.0}},
    }  # fmt: skip
    (folder / "pair.json").write_text(json.dumps(pair))
    (folder / "bytes").mkdir()
    (folder / BYTES).write_text(json.dumps(byte_pairs()))
    record = TextToVideo.from_pair(folder).record(PROMPT, frames=1)
    (folder / "record.json").write_text(json.dumps(record.to_dict()))
    module = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    lora = {f"{module}.lora_A.weight": torch.ones(1, 8), f"{module}.lora_B.weight": torch.ones(8, 1)}
    save_file(lora, folder / "lora.safetensors")
    torch.save({"a": torch.ones(2), "b": torch.zeros(3)}, folder / "weights.ckpt")
    save_file({"a": torch.ones(2)}, folder / "weights.safetensors")
    (folder / "arms.json").write_text('[{"label": "one", "options": {"sampler": "ddim"}}]')
    (folder / "prompts.jsonl").write_text(f'{{"prompt": "{PROMPT}", "seed": 3}}\n')
    (folder / "prompts.csv").write_text(f"prompt,seed\n{PROMPT},3\n")
    (folder / "prompts.txt").write_text(f"{PROMPT}\n{PROMPT}\n")
    Image.new("RGB", (8, 8)).save(folder / "clip.png")
    frames = [Image.new("RGB", (8, 8), (20 * k, 0, 0)) for k in range(3)]
    frames[0].save(folder / "clip.gif", save_all=True, append_images=frames[1:])


def byte_pairs() -> dict[str, Any]:
    """A tokenizer.json of three tokens: those of the text encoder reach."""
    vocabulary = {BOS: 0, EOS: 1, "a": 2}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": None, "decoder": None,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }  # fmt: skip


# --- what strangers write -------------------------------------------------------------------------------------------


def with_header(header: object, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


def tensor(dtype: str = "F32", shape: Any = (1,), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def lora(**keys: Any) -> bytes:
    """A file of tensors of ones, of these shapes, whose names' dots are written `__`."""
    import torch
    from safetensors.torch import save

    return save({name.replace("__", "."): torch.ones(shape) for name, shape in keys.items()})


def torch_file(pickled: bytes, copies: int = 1, how: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how) as archive:
        for k in range(copies):
            archive.writestr(f"a{k or ''}/data.pkl", pickled)
        archive.writestr("a/version", b"3\n")
    return file.getvalue()


def called(name: str, *arguments: bytes) -> bytes:
    """A pickle that holds what `name` returns."""
    module, _, function = name.rpartition(".")
    tuples = b"".join(arguments) + (b")", b"\x85", b"\x86")[len(arguments)]
    return b"\x80\x02}X\x01\0\0\0ac" + f"{module}\n{function}\n".encode() + tuples + b"Rs."


def nested_tuples(depth: int, width: int = 2) -> bytes:
    """A pickled dict whose key is a tuple of `width` times a tuple of …: width**depth numbers to whoever hashes it."""
    return b"\x80\x02}q\0K\1q\1" + (b"(" + b"h\1" * width + b"tq\1") * depth + b"h\0h\1K\1s."


def nested(depth: int) -> bytes:
    return b'{"a": ' * depth + b"1" + b"}" * depth


def replacing(times: int, content: str = "aa") -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": [
        {"type": "Replace", "pattern": {"String": "a"}, "content": content} for _ in range(times)
    ]}  # fmt: skip


def regex(pattern: str) -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"pre_tokenizer": split}


def without_tables(folder: Path) -> None:
    """A motion model whose file leaves out its position tables, said to be of a million frames."""
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "video" / "unet" / WEIGHTS)
    save_file({k: v for k, v in state.items() if not k.endswith(".pe")}, folder / "video" / "unet" / WEIGHTS)
    config = json.loads((folder / VIDEO).read_text()) | {"motion_max_seq_length": 10**6}
    (folder / VIDEO).write_text(json.dumps(config))


BIG = b"\x8a\x05" + (4 * 10**9).to_bytes(5, "little")  # a pickled number
KEY = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
A, B = (f"{KEY}.lora_{x}.weight".replace(".", "__") for x in "AB")

WEIGHT_CASES = {
    "empty": Case("weights.safetensors", b"", "it is empty"),
    "web page": Case("weights.safetensors", b"<html>", "it is a web page"),
    "deep header": Case("weights.safetensors", with_header(DEEP), "nested more than 32 deep"),
    "header nested forty times": Case("weights.safetensors", with_header(nested(40)), "nested more than 32 deep"),
    "40,000 empty tensors": Case(
        "weights.safetensors", with_header({f"k{i}": tensor(shape=[0], offsets=[0, 0]) for i in range(40_000)}),
        "it holds 40,000 tensors, more than 20,000",
    ),
    "a name of many lines": Case("weights.safetensors", with_header({"a\nb": tensor()}, b"1234"), r"a\\nb is no name"),
    "a name of a megabyte": Case(
        "weights.safetensors", with_header({"a" * 10**6: tensor()}, b"1234"), "is no name of a tensor"
    ),
    "a name that steers a terminal": Case(
        "weights.safetensors", with_header({"\x1b[2J": tensor()}, b"1234"), r"\\x1b\[2J is no name"
    ),
    "a huge whole number": Case("weights.safetensors", with_header(b'{"a": ' + b"9" * 400 + b"}"), "of 400 digits"),
    "a number past all": Case("weights.safetensors", with_header(b'{"a": 1e999}'), "1e999 is past all numbers"),
    "metadata a number": Case("weights.safetensors", with_header({"__metadata__": 3}), "holds more than strings"),
    "an unknown dtype": Case("weights.safetensors", with_header({"a": tensor("F7")}, b"1234"), "has dtype 'F7'"),
    "bytes left over": Case("weights.safetensors", with_header({"a": tensor()}, b"12345"), "5 are there"),
    "a header longer than the file": Case("weights.safetensors", b"\xff" * 16, "its header should have"),
    "integers for a network": Case(
        f"vae/{WEIGHTS}", with_header({"encoder.conv_in.weight": tensor("I32")}, b"1234"),
        "nearest layout diffusers VAE, but the key .* is missing",
    ),
    "another network's": Case(f"vae/{WEIGHTS}", with_header({"a": tensor()}, b"1234"), "knows 0 of 1 keys, not: a"),
    "nothing": Case(f"vae/{WEIGHTS}", with_header({}), "nearest layout|nothing known"),
    "no index": Case("m.safetensors.index.json", b"{}", "has no weight_map"),
    "deep index": Case("m.safetensors.index.json", b'{"weight_map":' + DEEP, "nested more than 32 deep"),
    "an index elsewhere": Case("m.safetensors.index.json", b'{"weight_map": {"a": "../x.ckpt"}}', r"points to '\.\./x"),
    "an index of itself": Case(
        "m.safetensors.index.json", b'{"weight_map": {"a": "m.safetensors.index.json"}}', "points to 'm.safetensors"
    ),
    "an index of numbers": Case("m.safetensors.index.json", b'{"weight_map": {"a": 1}}', "has no weight_map"),
    "an index of no file": Case("m.safetensors.index.json", b'{"weight_map": {"a": "b.ckpt"}}', r"no file .*b\.ckpt"),
    "an index with a NUL": Case("m.safetensors.index.json", b'{"weight_map": {"a": "\\u0000.ckpt"}}', "points to"),
    "an index of long names": Case(
        "m.safetensors.index.json", b'{"weight_map": {"a": "' + b"x" * 300 + b'.ckpt"}}', "points to 'xxx"
    ),
    "an index twice": Case("m.safetensors.index.json", b'{"weight_map": {"a": "b", "a": "b"}}', "occurs twice"),
    "an index that disagrees": Case(
        "m.safetensors.index.json", b'{"weight_map": {"z": "weights.safetensors"}}', "disagree about 2 tensors"
    ),
    "no zip": Case("weights.ckpt", pickle.dumps({"a": 1}), "torch before 1.6"),
    "a zip of nothing": Case("weights.ckpt", torch_file(b"", 0), r"it holds 0 pickles \(data\.pkl\)"),
    "two pickles": Case("weights.ckpt", torch_file(b"\x80\x02}.", 2), "it holds 2 pickles"),
    "a zip bomb": Case("weights.ckpt", torch_file(b"\0" * 10**7, 1, zipfile.ZIP_DEFLATED), "is compressed"),
    "a million marks": Case("weights.ckpt", torch_file(b"\x80\x02" + b"(" * 3_000_000), "its pickle has 3,000,002 by"),
    "marks": Case("weights.ckpt", torch_file(b"\x80\x02" + b"(" * 100_000 + b"."), "not a readable torch file"),
    "code": Case("weights.ckpt", torch_file(called("os.system", b"X\4\0\0\0true")), r"wants os\.system"),
    "eval": Case("weights.ckpt", torch_file(called("builtins.eval", b"X\1\0\0\x001")), r"wants builtins\.eval"),
    "gigabytes of bytes": Case("weights.ckpt", torch_file(called("builtins.bytearray", BIG)), r"builtins\.bytearray"),
    "gigabytes of storage": Case(
        "weights.ckpt", torch_file(called("torch.storage.UntypedStorage", BIG)), r"torch\.storage\.UntypedStorage"
    ),
    "gigabytes of numbers": Case("weights.ckpt", torch_file(called("torch.FloatTensor", BIG)), r"torch\.FloatTensor"),
    "a name that never ends": Case("weights.ckpt", torch_file(nested_tuples(60)), r"a tuple of 2\.3e\+18 values"),
    "a wide name that never ends": Case("weights.ckpt", torch_file(nested_tuples(4, 200)), "a tuple of 1.6e.09 values"),
    "a pickle of 400 names": Case(
        "weights.ckpt", torch_file(b"\x80\x02" + b"".join(b"cm\nn%d\n" % i for i in range(400)) + b"."),
        r"m\.n0, m\.n1, m\.n10 and 397 more",
    ),
    "a name of lines": Case("weights.ckpt", torch_file(b"\x80\x02}X\3\0\0\0a\nbK\1s."), "holds no tensors, only"),
    "a pickle cut short": Case("weights.ckpt", torch_file(b"\x80\x02}X\3"), "not a readable torch file"),
    "a pickle of protocol 4": Case("weights.ckpt", torch_file(pickle.dumps({"a": 1}, 4)), "is of protocol 04"),
    "a folder of weights": Case("weights.ckpt", lambda path: (path.unlink(), path.mkdir()), "a folder without files"),
    "a pickle called safetensors": Case("weights.safetensors", pickle.dumps({"a": 1}, 2), "it is a pickle"),
    "a text called .bin": Case("weights.bin", b"weights", "not a readable torch file"),
    "something else": Case("weights.txt", b"weights", "is no weight file"),
}  # fmt: skip

CONFIG_CASES = {
    "empty config": Case(UNET, b"", "is not JSON"),
    "config a list": Case(UNET, b"[]", "holds a JSON list, expected an object"),
    "config not UTF-8": Case(UNET, b'{"a": "\xff"}', "can't decode"),
    "deep config": Case(UNET, b'{"a": ' + DEEP, "nested more than 32 deep"),
    "config of forty levels": Case(UNET, nested(40), "nested more than 32 deep"),
    "config without class": Case(UNET, {"_class_name": DROP}, "lacks the entry '_class_name'"),
    "config of another class": Case(UNET, {"_class_name": "Flux"}, "'Flux'"),
    "class a list": Case(UNET, {"_class_name": ["UNet2DConditionModel"]}, "_class_name"),
    "channels text": Case(UNET, {"in_channels": "4"}, "in_channels is '4', expected a whole number"),
    "channels none": Case(UNET, {"out_channels": None}, "out_channels is None"),
    "channels negative": Case(UNET, {"in_channels": -4}, "in_channels is -4"),
    "channels nought": Case(UNET, {"out_channels": 0}, "out_channels is 0"),
    "channels true": Case(UNET, {"in_channels": True}, "in_channels is True"),
    "channels a fraction": Case(UNET, {"in_channels": 4.0}, r"in_channels is 4\.0"),
    "widths none": Case(UNET, {"block_out_channels": None}, "describes no UNet"),
    "widths text": Case(UNET, {"block_out_channels": "88"}, "block_out_channels is"),
    "no widths": Case(UNET, {"block_out_channels": []}, "describes no UNet"),
    "widths negative": Case(UNET, {"block_out_channels": [-8]}, r"block_out_channels is \(-8,\)"),
    "widths nested": Case(UNET, {"block_out_channels": [[8]]}, r"block_out_channels is \(\[8\],\)"),
    "widths astronomical": Case(UNET, {"block_out_channels": [10**18]}, "block_out_channels is"),
    "widths of many levels": Case(UNET, {"block_out_channels": [8] * 9000}, "describes no UNet"),
    "levels without end": Case(UNET, {"layers_per_block": 10**6}, "more than 5,000 tensors"),
    "layers negative": Case(UNET, {"layers_per_block": -1}, "layers_per_block is -1"),
    "layers of no level": Case(UNET, {"layers_per_block": []}, r"layers_per_block is \[\]"),
    "layers that differ": Case(UNET, {"layers_per_block": [1, {}]}, "only one number for all levels"),
    "heads nought": Case(UNET, {"attention_head_dim": 0}, "num_attention_heads is 0"),
    "heads text": Case(UNET, {"attention_head_dim": "8"}, "num_attention_heads is"),
    "heads an object": Case(UNET, {"attention_head_dim": {"a": 8}}, "num_attention_heads is"),
    "heads that divide nothing": Case(UNET, {"attention_head_dim": 3}, "describes no UNet"),
    "groups negative": Case(UNET, {"norm_num_groups": -2}, "norm_num_groups is -2"),
    "groups that divide nothing": Case(UNET, {"norm_num_groups": 3}, "describes no UNet"),
    "blocks unknown": Case(UNET, {"down_block_types": ["AttnDownBlock2D"]}, "down_block_types is"),
    "blocks numbers": Case(UNET, {"down_block_types": [1]}, "describes no UNet"),
    "text of no width": Case(UNET, {"cross_attention_dim": None}, "cross_attention_dim is None"),
    "text of another width": Case(UNET, {"cross_attention_dim": 16}, r"expected \(8, 16\)"),
    "a long value": Case(UNET, {"act_fn": "x" * 10**6}, "act_fn is 'xxx.*…, only 'silu'"),
    "a value of lines": Case(UNET, {"act_fn": "a\nb"}, r"act_fn is 'a\\nb'"),
    "a million frames without tables": Case(
        VIDEO, lambda path: without_tables(path.parents[2]), "the positions of 1,000,000 frames.* would be larger"
    ),
    "frames text": Case(VIDEO, {"motion_max_seq_length": "32"}, "max_frames is '32'"),
    "frames negative": Case(VIDEO, {"motion_max_seq_length": -1}, "max_frames is -1"),
    "motion heads nought": Case(VIDEO, {"motion_num_attention_heads": 0}, "num_attention_heads is 0"),
    "middle text": Case(VIDEO, {"use_motion_mid_block": "no"}, "mid_block is 'no', expected true or false"),
    "scale text": Case(VAE, {"scaling_factor": "0.18"}, "scaling_factor is '0.18', expected a number above 0"),
    "scale a list": Case(VAE, {"scaling_factor": [1]}, r"scaling_factor is \[1\]"),
    "scale nought": Case(VAE, {"scaling_factor": 0}, "scaling_factor is 0"),
    "scale negative": Case(VAE, {"scaling_factor": -0.5}, r"scaling_factor is -0\.5"),
    "scale past all": Case(VAE, lambda path: path.write_text('{"scaling_factor": 1e999}'), "is past all numbers"),
    "scale no number": Case(VAE, lambda path: path.write_text('{"scaling_factor": NaN}'), "NaN is no JSON"),
    "VAE groups negative": Case(VAE, {"norm_num_groups": -2}, "norm_num_groups is -2"),
    "VAE groups a fraction": Case(VAE, {"norm_num_groups": 2.0}, r"norm_num_groups is 2\.0"),
    "VAE layers without end": Case(VAE, {"layers_per_block": 10**6}, "more than 5,000 tensors"),
    "VAE of other blocks": Case(VAE, {"up_block_types": ["Wavelet"]}, "up_block_types is"),
    "VAE shifted": Case(VAE, {"shift_factor": 0.1}, r"shift_factor is 0\.1"),
    "VAE without widths": Case(VAE, {"block_out_channels": DROP}, "lacks the entry 'block_out_channels'"),
    "VAE widths a number": Case(VAE, {"block_out_channels": 8}, "describes no VAE"),
    "vocabulary negative": Case(TEXT, {"vocab_size": -1}, "vocab_size is -1"),
    "vocabulary text": Case(TEXT, {"vocab_size": "5"}, "vocab_size is '5'"),
    "width a fraction": Case(TEXT, {"hidden_size": 8.5}, r"hidden_size is 8\.5"),
    "text heads nought": Case(TEXT, {"num_attention_heads": 0}, "num_attention_heads is 0"),
    "text heads that divide nothing": Case(TEXT, {"num_attention_heads": 3}, "is not a multiple of 3 heads"),
    "activation unknown": Case(TEXT, {"hidden_act": "relu"}, "hidden_act 'relu'"),
    "activation a list": Case(TEXT, {"hidden_act": []}, r"hidden_act is \[\], expected text"),
    "positions nought": Case(TEXT, {"max_position_embeddings": 0}, "max_position_embeddings is 0"),
    "text layers without end": Case(TEXT, {"num_hidden_layers": 10**6}, "more than 5,000 tensors"),
    "another text model": Case(TEXT, {"model_type": "t5"}, "model_type is 't5'"),
    "text without entries": Case(TEXT, b"{}", "lacks the entry 'vocab_size'"),
}

TOKENIZER_CASES = {
    "tokenizer empty": Case(BYTES, b"", "is not a tokenizer"),
    "tokenizer a list": Case(BYTES, b"[]", "holds a JSON list"),
    "deep tokenizer": Case(BYTES, b'{"normalizer": ' + DEEP, "nested more than 32 deep"),
    "no model": Case(BYTES, {"model": DROP}, "its model is None, expected BPE or WordLevel"),
    "model a list": Case(BYTES, {"model": []}, r"its model is \[\]"),
    "model of another kind": Case(BYTES, {"model.type": "Unigram"}, "its model is 'Unigram'"),
    "dropout": Case(BYTES, {"model.dropout": 0.5}, r"has dropout 0\.5"),
    "vocabulary a list": Case(BYTES, {"model.vocab": []}, "is not a tokenizer"),
    "vocabulary of texts": Case(BYTES, {"model.vocab": {"a": "b"}}, "is not a tokenizer"),
    "token negative": Case(BYTES, {"model.vocab": {BOS: 0, EOS: 1, "a": -2}}, "is not a tokenizer"),
    "merges of nothing": Case(BYTES, {"model.merges": [["x", "y"]]}, "is not a tokenizer"),
    "merges numbers": Case(BYTES, {"model.merges": [1]}, "is not a tokenizer"),
    "no begin": Case(BYTES, {"model.vocab": {"a": 0}}, "not a CLIP-style tokenizer"),
    "tokens beyond the encoder's": Case(
        BYTES, {"model.vocab": {BOS: 0, EOS: 1, "a": 5}}, "numbers its tokens up to 5, the text encoder knows 5"
    ),
    "tokens far beyond": Case(BYTES, {"model.vocab": {BOS: 0, EOS: 4_000_000_000}}, "up to 4,000,000,000"),
    "a bad map": Case(
        BYTES, {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}}, "go through 'Precompiled'"
    ),
    "no stage": Case(BYTES, {"normalizer": 5}, "go through 5"),
    "a stage unknown": Case(BYTES, {"pre_tokenizer": {"type": "Python"}}, "go through 'Python'"),
    "a stage without a type": Case(BYTES, {"normalizer": {"lowercase": True}}, "go through None"),
    "stages numbers": Case(BYTES, {"normalizer": {"type": "Sequence", "normalizers": [1, 2]}}, "go through 1"),
    "stages a number": Case(BYTES, {"normalizer": {"type": "Sequence", "normalizers": 7}}, "go through 7"),
    "nested replacements": Case(BYTES, {"normalizer": replacing(40)}, "may make a text longer by far"),
    "a long replacement": Case(BYTES, {"normalizer": replacing(1, "a" * 10**6)}, "longer by far"),
    "a long prefix": Case(BYTES, {"normalizer": {"type": "Prepend", "prepend": "a" * 10**6}}, "longer by far"),
    "a search for ever": Case(BYTES, regex("(a+)+$"), r"'\(a\+\)\+\$' may search for ever"),
    "a search of references": Case(BYTES, regex(r"(a)\1"), "may search for ever"),
    "a search of itself": Case(BYTES, regex(r"(?<x>a\g<x>)"), "may search for ever"),
    "two searches in a row": Case(BYTES, regex("a*a*b"), "may search for ever"),
    "no regular expression": Case(BYTES, regex("("), "is not a tokenizer"),
    "no pattern": Case(BYTES, {"pre_tokenizer": {"type": "Split"}}, "is not a tokenizer"),
    "added tokens a number": Case(BYTES, {"added_tokens": 3}, "is not a tokenizer"),
    "added tokens of nothing": Case(BYTES, {"added_tokens": [{}]}, "is not a tokenizer"),
    "padding unknown": Case(
        "bytes/special_tokens_map.json", b'{"pad_token": "<pad>"}', "does not know its own padding token '<pad>'"
    ),
    "padding a number": Case("bytes/special_tokens_map.json", b'{"pad_token": 3}', "pad_token is 3, expected text"),
    "special tokens a list": Case("bytes/special_tokens_map.json", b"[]", "holds a JSON list"),
    "deep special tokens": Case("bytes/tokenizer_config.json", b'{"a":' + DEEP, "nested more than 32 deep"),
}

LORA_CASES = {
    "LoRA empty": Case("lora.safetensors", b"", "it is empty"),
    "LoRA of nothing": Case("lora.safetensors", with_header({}), "holds no tensors: expected a LoRA"),
    "LoRA unknown": Case("lora.safetensors", lora(a__b=(1,)), r"cannot read the key a\.b"),
    "LoRA half": Case("lora.safetensors", lora(**{A: (1, 8)}), "but no up for it"),
    "LoRA that does not multiply": Case("lora.safetensors", lora(**{A: (1, 8), B: (8, 2)}), "do not multiply"),
    "LoRA of another width": Case("lora.safetensors", lora(**{A: (1, 9), B: (9, 1)}), "does not fit"),
    "LoRA of rank nought": Case("lora.safetensors", lora(**{A: (0, 8), B: (8, 0)}), "do not multiply"),
    "LoRA of numbers": Case("lora.safetensors", lora(**{A: (), B: ()}), "do not multiply"),
    "LoRA of no module": Case(
        "lora.safetensors", lora(unet__x__lora_A__weight=(1, 8), unet__x__lora_B__weight=(8, 1)), "does not fit",
    ),
    "DoRA": Case("lora.safetensors", lora(a__dora_scale=(1,)), "is DoRA"),
    "deep adapter": Case("adapter_config.json", b'{"lora_alpha":' + DEEP, "nested more than 32 deep"),
    "alpha a list": Case("adapter_config.json", b'{"lora_alpha": []}', "PEFT's config of it cannot be read"),
    "alpha text": Case("adapter_config.json", b'{"lora_alpha": "many"}', "PEFT's config of it cannot be read"),
    "alpha of thousands": Case(
        "adapter_config.json", b'{"lora_alpha": "' + b"x" * 5000 + b'"}', "cannot be read: .*xxx.*…"
    ),
    "alpha past float32": Case("adapter_config.json", b'{"lora_alpha": 1e300}', "the alpha of .* is not one finite"),
    "alphas a list": Case("adapter_config.json", b'{"alpha_pattern": [1]}', "PEFT's config of it cannot be read"),
    "alphas by pattern": Case("adapter_config.json", b'{"alpha_pattern": {"(a+)+": 1}}', "only paths of modules"),
    "adapter a list": Case("adapter_config.json", b"[]", "holds a JSON list"),
    "adapter in the header": Case(
        "lora.safetensors",
        with_header({"__metadata__": {"lora_adapter_metadata": "[" * 50_000}, "a.lora_A.weight": tensor()}, b"1234"),
        "lora_adapter_metadata in its header is no JSON object",
    ),
}  # fmt: skip

RECORD_CASES = {
    "record empty": Case("record.json", b"", "record.json is not JSON"),
    "record a list": Case("record.json", b"[]", "holds a JSON list"),
    "deep record": Case("record.json", b'{"swaps":' + DEEP, "nested more than 32 deep"),
    "record of something else": Case("record.json", b'{"a": 1}', "unknown entry 'a'"),
    "a long entry": Case("record.json", {"a" * 10**6: 1}, "unknown entry 'aaa.*…; expected"),
    "an entry of lines": Case("record.json", {"a\nb": 1}, r"unknown entry 'a\\nb'"),
    "no prompts": Case("record.json", {"prompts": DROP}, "lacks the entry 'prompts'"),
    "empty prompt": Case("record.json", {"prompts": [" "]}, "prompts: one is empty"),
    "prompts text": Case("record.json", {"prompts": "a"}, "prompts is 'a', expected a list"),
    "prompt with a bell": Case("record.json", {"prompts": ["a\x07b"]}, r"has the control character U\+0007"),
    "prompts too many": Case("record.json", {"prompts": ["a", "a"]}, "has 1 entries for 2 prompts"),
    "seed negative": Case("record.json", {"seeds": [-1]}, "seeds=-1"),
    "seed of 30 digits": Case("record.json", {"seeds": [10**30]}, "is a number of 31 digits"),
    "seed past all": Case("record.json", {"seeds": [2**63]}, "seeds=9223372036854775808"),
    "frames text": Case("record.json", {"frames": "2"}, "frames is '2', expected a whole number"),
    "frames nought": Case("record.json", {"frames": 0}, "frames=0: expected a whole number of 1 or more"),
    "width negative": Case("record.json", {"width": -8}, "width=-8"),
    "tile nought": Case("record.json", {"vae_tile": 0}, "vae_tile=0"),
    "strength of two": Case("record.json", {"strength": 2}, "strength is 2"),
    "dtype unknown": Case("record.json", {"dtype": "foo"}, "dtype 'foo': expected one of float32"),
    "dtype a function": Case("record.json", {"dtype": "load"}, "dtype 'load'"),
    "compile unknown": Case("record.json", {"compile": "yes"}, "compile is 'yes', expected one of"),
    "pair a number": Case("record.json", {"pair": 5}, "pair is 5, expected text"),
    "pair elsewhere": Case("record.json", {"pair": "/nowhere"}, "pair '/nowhere': expected one of"),
    "pair with a NUL": Case("record.json", {"pair": "a\0b"}, "pair 'a.x00b'"),
    "device unknown": Case("record.json", {"device": "gpu"}, "device 'gpu': not available here"),
    "swaps a list": Case("record.json", {"swaps": ["vae"]}, r"swaps is \['vae'\], expected an object"),
    "swaps unknown": Case("record.json", {"swaps": {"unet": "x"}}, "swaps: unknown entry 'unet'"),
    "swap a number": Case("record.json", {"swaps": {"vae": 5}}, "swaps: vae is 5"),
    "swap of LoRAs text": Case("record.json", {"swaps": {"image_lora": "x"}}, "swaps: image_lora is 'x'"),
    "swap of nothing": Case("record.json", {"swaps": {"vae": "/nowhere"}}, "no file or folder /nowhere"),
    "swap skips": Case("record.json", {"swaps": {"clip_skip": 99}}, "clip_skip=99: expected 1"),
    "sampler unknown": Case("record.json", {"sampling.sampler": "foo"}, "sampler 'foo': expected one of"),
    "sampler a list": Case("record.json", {"sampling.sampler": ["ddim"]}, r"sampler \['ddim'\]: expected one of"),
    "no sampler": Case("record.json", {"sampling": {}}, "sampler None: expected one of"),
    "option unknown": Case("record.json", {"sampling.colour": 1}, "unknown entry 'colour'"),
    "option missing": Case("record.json", {"sampling.guidance": DROP}, "lacks the entry 'guidance'"),
    "steps text": Case("record.json", {"sampling.steps": "9"}, "steps='9'"),
    "steps without end": Case("record.json", {"sampling.steps": 10**9}, "steps=1000000000: expected"),
    "guidance text": Case("record.json", {"sampling.guidance": "9"}, "guidance='9'"),
    "guidance past all": Case("record.json", lambda path: past_all(path), "1e999 is past all numbers"),
    "solver a list": Case("record.json", {"sampling.solver": []}, r"solver \[\]"),
    "spacing unknown": Case("record.json", {"sampling.spacing": "even"}, "spacing 'even'"),
    "video text": Case("record.json", {"video": "clip.mp4"}, "video is 'clip.mp4', expected an object or null"),
    "video gone": Case("record.json", {"video": {"path": "/nowhere.mp4", "sha256": ""}, "strength": 1}, "no such file"),
    "noise of Python's": Case("record.json", {"latents": {"path": None, "sha256": ""}}, "which no record holds"),
    "a solver of Python's": Case("record.json", {"sampling.solver": "MyEuler()"}, r"solver 'MyEuler\(\)': expected"),
    "option misspelt": Case("record.json", {"sampling.stps": 3}, "did you mean 'steps'"),
    "swap misspelt": Case("record.json", {"swaps": {"vea": "x"}}, "unknown entry 'vea'; did you mean 'vae'"),
    "image frames nought": Case("record.json", {"image_frames": 0}, "image_frames=0"),
    "window nought": Case("record.json", {"window": 0, "overlap": 0}, "window=0"),
    "window without overlap": Case("record.json", {"window": 8}, "overlap is None of window 8, expected both or"),
    "overlap of a whole window": Case("record.json", {"window": 8, "overlap": 8}, "overlap=8: expected .* to 7"),
    "noise unknown": Case("record.json", {"noise": "pink"}, "noise is 'pink', expected one of white, freenoise"),
    "batch nought": Case("record.json", {"batch_sizes": [0]}, "batch_size=0"),
    "batch without end": Case("record.json", {"batch_sizes": [10**12]}, "need at least"),
    "batches too many": Case("record.json", {"batch_sizes": [1, 1]}, "batch_sizes has 2 entries for 1 prompts"),
    "a place beyond its batch": Case("record.json", {"batch_places": [1]}, "place=1: expected .* from 0 to 0"),
    "strength of no video": Case("record.json", {"strength": 0.5}, "strength says how to begin from a video"),
    "raw text": Case("record.json", {"raw_prompts": "no"}, "raw_prompts is 'no', expected true or false"),
}


def past_all(path: Path) -> None:
    raw = json.loads(path.read_text())
    raw["sampling"]["guidance"] = "GUIDANCE"
    path.write_text(json.dumps(raw).replace('"GUIDANCE"', "1e999"))


PAIR_CASES = {
    "pair empty": Case("pair.json", b"", "pair.json is not JSON"),
    "deep pair": Case("pair.json", b'{"image":' + DEEP, "nested more than 32 deep"),
    "pair a list": Case("pair.json", b"[]", "holds a JSON list"),
    "format unknown": Case("pair.json", {"format": 2}, "has format 2: this version reads format 1"),
    "format long": Case("pair.json", {"format": "x" * 10**6}, "has format 'xxx.*…: this"),
    "no name": Case("pair.json", {"name": DROP}, "lacks the entry 'name'"),
    "pair's entry unknown": Case("pair.json", {"colour": 1}, "unknown entry 'colour'"),
    "side text": Case("pair.json", {"image": "x"}, "image is 'x', expected an object"),
    "side's entry unknown": Case("pair.json", {"image.colour": "x"}, "unknown entry 'colour'"),
    "VAE without a bridge": Case("pair.json", {"image.vae": "x"}, "bridge: expected one where the image model has"),
    "UNet a number": Case("pair.json", {"image.unet": 5}, "unet is 5, expected text"),
    "UNet nowhere": Case("pair.json", {"image.unet": "nowhere"}, "no file or folder .*nowhere"),
    "UNet with a NUL": Case("pair.json", {"image.unet": "a\0b"}, r"unet is 'a\\x00b': too long for a name"),
    "UNet of thousands": Case("pair.json", {"image.unet": "x" * 5000}, "unet is 'xxx.*…: too long for a name"),
    "UNet a text encoder": Case("pair.json", {"image.unet": "text"}, "holds no weight file for unet|it holds no unet"),
    "UNet of a long name": Case("pair.json", {"image.unet": "x" * 300}, "File name too long|no file or folder"),
    "no hub": Case("pair.json", {"vae": "hub:nowhere"}, "expected hub:owner/name"),
    "a hub above": Case("pair.json", {"vae": "hub:a/b/../c"}, "expected hub:owner/name"),
    "prediction unknown": Case("pair.json", {"video.prediction": "noise"}, "prediction is 'noise', expected 'epsilon'"),
    "prediction a list": Case("pair.json", {"video.prediction": ["v"]}, r"prediction is \['v'\]"),
    "schedule text": Case("pair.json", {"image.schedule": "linear"}, "schedule is 'linear', expected an object"),
    "schedule unknown": Case("pair.json", {"image.schedule": {"kind": "sine"}}, "image: schedule: kind: got 'sine'"),
    "schedule of nothing": Case("pair.json", {"image.schedule": {"kind": "fading"}}, "fading: got no of"),
    "schedule without end": Case(
        "pair.json", {"image.schedule": {"kind": "linear", "timesteps": 10**9}}, "expected a whole number from 2 to"
    ),
    "schedule of texts": Case(
        "pair.json", {"image.schedule": {"kind": "alpha_bar", "alpha_bar": ["a"]}}, "expected a list of finite numbers"
    ),
    "betas text": Case("pair.json", {"image.schedule": {"kind": "linear", "beta_start": "1"}}, "beta_start: got '1'"),
    "betas backwards": Case("pair.json", {"image.schedule": {"kind": "linear", "beta_start": 0.5}}, "0 < beta_start"),
    "pair's frames nought": Case("pair.json", {"frames": 0}, "frames=0: expected a whole number"),
    "pair's height negative": Case("pair.json", {"height": -8}, "height=-8"),
    "pair's width without end": Case("pair.json", {"width": 10**12}, "width=1000000000000"),
    "pair's height a fraction": Case("pair.json", {"height": 8.0}, "height is 8.0, expected a whole number"),
    "pair's rate": Case("pair.json", {"fps": 10**5}, "fps is 100000"),
    "defaults a list": Case("pair.json", {"defaults": []}, r"defaults is \[\], expected an object"),
    "no default sampler": Case("pair.json", {"defaults.sampler": DROP}, "defaults: sampler is None"),
    "default sampler unknown": Case("pair.json", {"defaults.sampler": "foo"}, "sampler 'foo': expected one of"),
    "default steps text": Case("pair.json", {"defaults.ddim.steps": "x"}, "defaults: steps='x'"),
    "default options text": Case("pair.json", {"defaults.ddim": "x"}, "defaults: ddim is 'x', expected an object"),
    "default option unknown": Case("pair.json", {"defaults.ddim.colour": 1}, "unknown entry 'colour'"),
    "negative prompt a list": Case("pair.json", {"defaults.negative_prompt": []}, "negative_prompt is"),
    "clip skip": Case("pair.json", {"image.clip_skip": 0}, "clip_skip=0: expected 1"),
    "files text": Case("pair.json", {"files": {"x": "y"}}, "x is 'y', expected an object"),
    "an entry twice": Case("pair.json", b'{"format": 1, "format": 1}', "'format' occurs twice"),
}

ARMS_CASES = {
    "arms empty": Case("arms.json", b"", "arms.json is not JSON"),
    "arms deep": Case("arms.json", DEEP, "nested more than 32 deep"),
    "arms an object": Case("arms.json", b"{}", "expected a JSON list of the form"),
    "no arms": Case("arms.json", b"[]", "expected at least one sampler"),
    "arm a number": Case("arms.json", b"[3]", "arm 0 is 3, expected an object"),
    "arm without label": Case("arms.json", b'[{"options": {}}]', "arm 0: it lacks the entry 'label'"),
    "arm of another entry": Case("arms.json", b'[{"label": "a", "option": {}}]', "did you mean 'options'"),
    "label of no letters": Case("arms.json", b'[{"label": "?", "options": {}}]', "expected a label of 1 to 100"),
    "label twice": Case("arms.json", b'[{"label": "a", "options": {}}, {"label": "A", "options": {}}]', "differ more"),
    "a label of thousands": Case("arms.json", b'[{"label": "' + b"?a" * 5000 + b'", "options": {}}]', "arm '.*…: exp"),
    "arm's sampler of thousands": Case(
        "arms.json", b'[{"label": "a", "options": {"sampler": "' + b"x" * 5000 + b'"}}]', "sampler 'xxx.*…: expected"
    ),
    "label not UTF-8": Case("arms.json", b'[{"label": "\xff", "options": {}}]', "can't decode"),
    "arm's sampler": Case("arms.json", b'[{"label": "a", "options": {"sampler": 3}}]', "arm 'a': sampler 3: expected"),
    "arm's option": Case("arms.json", b'[{"label": "a", "options": {"colour": 3}}]', "option 'colour' is not known"),
    "arm's steps": Case("arms.json", b'[{"label": "a", "options": {"steps": []}}]', r"arm 'a': steps=\[\]"),
    "arm's guidance": Case("arms.json", b'[{"label": "a", "options": {"guidance": 1e999}}]', "past all numbers"),
    "arm's frames": Case("arms.json", b'[{"label": "a", "options": {"frames": 0}}]', "arm 'a': frames=0"),
}

PROMPT_CASES = {
    "no line": Case("prompts.txt", b"\n\n", "it asks for no clip"),
    "a bell": Case("prompts.txt", b"a\na\x07", r"line 2: the prompt has the control character U\+0007"),
    "an escape": Case("prompts.txt", b"a \x1b[2J", r"control character U\+001B, its character 3: remove it"),
    "not UTF-8": Case("prompts.txt", b"\xff\xfe", "expected UTF-8 text"),
    "a weight": Case("prompts.txt", b"a (red:1.2.3)", "is not a number"),
    "an edit": Case("prompts.txt", b"a [red:0.5]", "would edit it during the run"),
    "words unknown in brackets": Case(
        "prompts.txt", b"a (purple circle", r"the prompt 'a \(purple circle' has words outside the vocabulary: 'purple'"
    ),
    "a prompt without end": Case("prompts.txt", b"a " * 40_000, "has 79,999 characters"),
    "no head": Case("prompts.csv", b"", "expected the names of columns"),
    "a head that stays open": Case("prompts.csv", b'"prompt,seed\na,3\n', "unexpected end of data"),
    "a head of thousands": Case("prompts.csv", b"[" * 5000, "prompt among them, got \\['\\[.*…"),
    "a column unknown": Case("prompts.csv", b"prompt,colour\na,red\n", "unknown entry 'colour'"),
    "a cell too many": Case("prompts.csv", b"prompt\na,b\n", "expected 1, as in the head"),
    "a seed of 5000 digits": Case("prompts.csv", b"prompt,seed\na," + b"9" * 5000, "seed is '999"),
    "a cell without end": Case("prompts.csv", b'prompt\n"' + b"a" * 200_000 + b'"\n', "field larger than field limit"),
    "a quote that stays open": Case("prompts.csv", b'prompt\n"a\n', "unexpected end of data"),
    "deep line": Case("prompts.jsonl", DEEP, "line 1: not JSON"),
    "line of forty levels": Case("prompts.jsonl", nested(40), "line 1: not JSON .it is nested more than 32"),
    "a prompt a number": Case("prompts.jsonl", b'{"prompt": 5}', "prompt is 5, expected text"),
    "a prompt half a character": Case("prompts.jsonl", b'{"prompt": "\\ud800"}', r"control character U\+D800"),
    "a negative prompt with NUL": Case(
        "prompts.jsonl", b'{"prompt": "a", "negative_prompt": "\\u0000"}', r"negative_prompt has the control character"
    ),
    "a seed past all": Case("prompts.jsonl", b'{"prompt": "a", "seed": 9223372036854775808}', "below 2"),
    "prompts of another kind": Case("prompts.md", b"a", "unknown suffix '.md'"),
}

CLIP_CASES = {
    "clip empty": Case("clip.png", b"", "the file is empty"),
    "clip of text": Case("clip.png", b"hello", "no video or picture"),
    "picture cut short": Case("clip.png", lambda path: cut(path, 45), "damaged or cut short"),
    "a picture of gigapixels": Case("clip.png", lambda path: resize(path, 10**6), "cannot read|damaged"),
    "a picture of no size": Case("clip.png", lambda path: resize(path, 0), "cannot read"),
    "animation cut short": Case("clip.gif", lambda path: cut(path, 20), "cannot read"),
    "a playlist": Case("clip.mp4", b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", "no video or picture"),
    "a film without film": Case("clip.mp4", b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "no video"),
    "a clip that is not there": Case("clip.mp4", lambda path: None, "no such file or folder"),
}


def cut(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])


def resize(path: Path, width: int) -> None:
    """A PNG that says it is a square of `width`."""
    import zlib

    raw = bytearray(path.read_bytes())
    raw[16:24] = width.to_bytes(4) * 2
    raw[29:33] = zlib.crc32(raw[12:29]).to_bytes(4)
    path.write_bytes(raw)


SCHEDULER_CASES = {
    "scheduler no JSON": Case(SCHEDULER, b"{", "is not JSON"),
    "scheduler a list": Case(SCHEDULER, b"[]", "holds a JSON list"),
    "scheduler deep": Case(SCHEDULER, DEEP, "is not JSON"),
    "betas unknown": Case(SCHEDULER, {"beta_schedule": "sigmoid"}, "beta_schedule: got 'sigmoid'"),
    "betas text": Case(SCHEDULER, {"beta_start": "0.1"}, "beta_start is '0.1'"),
    "betas past 1": Case(SCHEDULER, {"beta_end": 2}, "beta"),
    "betas negative": Case(SCHEDULER, {"beta_start": -0.1}, "beta"),
    "betas listed as text": Case(SCHEDULER, {"trained_betas": ["a"]}, "trained_betas"),
    "betas listed of none": Case(SCHEDULER, {"trained_betas": []}, "trained_betas"),
    "betas listed nested": Case(SCHEDULER, {"trained_betas": [[0.1]]}, "trained_betas"),
    "timesteps nought": Case(SCHEDULER, {"num_train_timesteps": 0}, "num_train_timesteps"),
    "timesteps astronomical": Case(SCHEDULER, {"num_train_timesteps": 10**9}, "num_train_timesteps"),
    "timesteps text": Case(SCHEDULER, {"num_train_timesteps": "1000"}, "num_train_timesteps"),
    "prediction unknown": Case(SCHEDULER, {"prediction_type": "noise"}, "prediction_type is 'noise'"),
    "prediction a list": Case(SCHEDULER, {"prediction_type": ["epsilon"]}, "prediction_type"),
    "zero SNR text": Case(SCHEDULER, {"rescale_betas_zero_snr": "yes"}, "rescale_betas_zero_snr"),
}


CASES = (
    WEIGHT_CASES | CONFIG_CASES | SCHEDULER_CASES | TOKENIZER_CASES | LORA_CASES | RECORD_CASES | PAIR_CASES
    | ARMS_CASES | PROMPT_CASES | CLIP_CASES
)  # fmt: skip


# --- the commands ---------------------------------------------------------------------------------------------------


def command(file: str) -> list[str]:
    """What reads a file of this name, in the folder of the pair."""
    sample = ["sample", "--quiet", "-o", "out.gif"]
    match file.partition(".")[0]:
        case "weights" | "m":
            return ["inspect", file]
        case "record":
            return [*sample, "--from", file]
        case "prompts":
            return [*sample, "--pair", ".", "--prompts", file]
        case "arms":
            return ["bench", "--quiet", "--rounds", "1", "--pair", ".", "--arms", file]
        case "lora" | "adapter_config":
            return [*sample, PROMPT, "--pair", ".", "--image-lora", "lora.safetensors"]
        case "clip":
            return [*sample, PROMPT, "--pair", ".", "--strength", "1", "--init", file]
        case name if name.startswith("bytes"):
            return [*sample, "a", "--pair", ".", "--tokenizer", "bytes"]
        case "image/scheduler/scheduler_config":
            return [*sample, PROMPT, "--pair", ".", "--image-model", "image"]
        case _:
            return [*sample, PROMPT, "--pair", "."]


def change(path: Path, how: Change) -> None:
    if callable(how):
        how(path)
    elif isinstance(how, bytes):
        path.write_bytes(how)
    else:
        raw = json.loads(path.read_text())
        for place, value in how.items():
            *inside, name = place.split(".")
            entry = raw
            for step in inside:
                entry = entry[step]
            if value is DROP:
                del entry[name]
            else:
                entry[name] = value
        path.write_text(json.dumps(raw))


def said_of(case: Case, sound: Path, folder: Path) -> tuple[int, str, list[str]]:
    """The status of the command on a sound folder with one change, all that reached stderr, of any library's, and the
    files that it left."""
    from ivmix.cli import main

    shutil.copytree(sound, folder)
    change(folder / case.file, case.change)
    os.chdir(folder)
    before = set(folder.rglob("*"))
    with tempfile.TemporaryFile() as file, contextlib.redirect_stdout(io.StringIO()):
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            status = main(command(case.file))
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
        file.seek(0)
        said = file.read().decode(errors="replace")
    left = sorted(path.name for path in set(folder.rglob("*")) - before)
    os.chdir(sound)
    shutil.rmtree(folder)
    return status, said, left


def run_table(folder: Path) -> None:
    """Prints a line of JSON a case, and the peak of memory."""
    sound = folder / "sound"
    sound.mkdir()
    make(sound)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    for name, case in CASES.items():
        print(json.dumps([name, *said_of(case, sound, folder / "changed")]), flush=True)
    status = Path("/proc/self/status").read_text()  # getrusage's peak is that of the process it was started from, too
    print(json.dumps(int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024))


# --- the tests ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, list[str]]]:
    """Status, stderr and what was left of every case; one that hangs, or takes the process with it, is the first
    without."""
    folder = tmp_path_factory.mktemp("strangers")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__, str(folder)], capture_output=True, text=True, check=False, timeout=SECONDS,
        env=environment,
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"after {lines[-1:]}: {done.stderr[-2000:]}"
    return {"": (0, str(lines[-1]), [])} | {name: (status, said, left) for name, status, said, left in lines[:-1]}


@pytest.mark.parametrize("name", CASES)
def test_a_stranger_s_file_is_one_line_of_status_2_and_leaves_nothing(
    name: str, table: dict[str, tuple[int, str, list[str]]]
) -> None:
    status, said, left = table[name]
    assert (status, left) == (2, []), said
    assert re.search(CASES[name].words, said), said
    assert said.startswith("ivmix ")
    assert said.count("\n") == 1
    assert len(said) < 1200


def test_what_strangers_files_claim_takes_no_memory(table: dict[str, tuple[int, str, list[str]]]) -> None:
    peak = float(table[""][1])
    assert peak < 900, f"{peak:,.0f} MB at the most, torch's own included"


if __name__ == "__main__":
    run_table(Path(sys.argv[1]).resolve())
