"""A student of the sprites' video model, in few steps: alone and with the image model, beside the teacher's samplers.

    python tests/figures/few_steps.py RUN [--rank 8] [-o FOLDER] [--clips 128 and what else ivmix evaluate takes]

RUN is a folder of `ivmix train sprites`, or one in which its stage "student" alone was run beside a copy of the shipped
pair. Two evaluations of the same captions and seeds, one a pair, which resume; printed are both tables. With --rank the
student is what is left of it as a LoRA of that rank on the teacher, whose size and share of the whole change is said.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ivmix.sprites.training.recipe import describe_few

FEW = {
    **{f"student, {n} step{'s'[: n > 1]}": {"sampler": "lcm", "steps": n} for n in (4, 1, 2, 8)},
    "student, 4 + 4, blend late": {"sampler": "blend", "steps": 4},
    "student, 4 + 4, blend, all of it": {"sampler": "blend", "steps": 4, "interval": "0:1"},
    "student, 4 + 1, blend, last step": {"sampler": "blend", "steps": 4, "interval": "0.9:1"},
    "student, 4 + 4, direction alone": {
        "sampler": "blend", "steps": 4, "image_weight": 0.1, "image_guidance": "14", "interval": "0:1"
    },
    "student, 4 + 4, turns": {"sampler": "turns", "steps": 8},
    "student, 6 + 2, turns late": {"sampler": "turns", "steps": 8, "interval": "0.5:1"},
    "student, 2 + 2, turns": {"sampler": "turns", "steps": 4},
    "student as a model with scores, 20 steps": {"sampler": "ddim", "guidance": 1.0},
}  # fmt: skip
TEACHER = {
    "composite ODE, 10 + 10": {"sampler": "composite"},
    "composite ODE, 4 + 4": {"sampler": "composite", "steps": 4},
    "teacher alone, 20 steps": {"sampler": "ddim"},
    "teacher alone, 4 steps": {"sampler": "ddim", "steps": 4},
    "teacher as a consistency model, 4 steps": {"sampler": "lcm"},
    "teacher as a consistency model, 4 + 4, blend": {"sampler": "blend"},
}


def evaluate(pair: Path, arms: dict[str, dict[str, object]], folder: Path, given: list[str]) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    listed = folder / "arms.json"
    listed.write_text(json.dumps([{"label": label, "options": options} for label, options in arms.items()]))
    command = [sys.executable, "-m", "ivmix", "evaluate", "--pair", str(pair), "--arms", str(listed)]
    subprocess.run([*command, "-o", str(folder), "--clips", "128", "--seeds", "1", *given], check=True)
    return (folder / "report.md").read_text()


def low_rank(teacher: dict[str, Tensor], student: dict[str, Tensor], rank: int) -> tuple[dict[str, Tensor], float]:
    """The change of every matrix and kernel by its largest `rank` singular values, as PEFT names them, and the share of
    all that changed, squared, that it keeps: what else changed, biases and norms, is lost."""
    factors, kept, all_of_it = dict[str, Tensor](), 0.0, 0.0
    for key, value in teacher.items():
        change = student[key].float() - value.float()
        all_of_it += float(change.square().sum())
        if change.ndim < 2 or not key.endswith(".weight"):
            continue
        U, S, V = torch.linalg.svd(change.flatten(1), full_matrices=False)
        r = min(rank, len(S))
        kept += float(S[:r].square().sum())
        up, down, name = U[:, :r] * S[:r].sqrt(), S[:r, None].sqrt() * V[:r], f"unet.{key.removesuffix('.weight')}"
        factors[f"{name}.lora_B.weight"] = up.reshape(*up.shape, *[1] * (change.ndim - 2)).half().contiguous()
        factors[f"{name}.lora_A.weight"] = down.reshape(r, *change.shape[1:]).half().contiguous()
    return factors, kept / all_of_it


def as_lora(run: Path, rank: int) -> Path:
    """The folder of a pair whose video model is the teacher with a LoRA, beside the student's."""
    folder, name = run / f"student-rank-{rank}", "diffusion_pytorch_model.safetensors"
    folder.mkdir(exist_ok=True)
    states = (load_file(run / place / "video" / "unet" / name) for place in ("pair", "student"))
    factors, share = low_rank(*states, rank)
    save_file(factors, folder / "lora.safetensors")
    size = (folder / "lora.safetensors").stat().st_size
    print(f"rank {rank}: {size / 1e6:.2f} MB keep {share:.1%} of the change")
    raw = describe_few()
    raw["video"] |= {"unet": "../pair/video/unet", "lora": "lora.safetensors",
                     "text_encoder": "../student/video/text_encoder"}  # fmt: skip
    (folder / "pair.json").write_text(json.dumps(raw))
    return folder


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("run", type=Path, metavar="RUN")
    arguments.add_argument("--rank", type=int)
    arguments.add_argument("-o", "--output", type=Path, default=Path("runs/few_steps"))
    options, given = arguments.parse_known_args()
    student = options.run / "student"
    if options.rank is None:
        (student / "pair.json").write_text(json.dumps(describe_few(), indent=2) + "\n")
        name = "student"
    else:
        student = as_lora(options.run, options.rank)
        name = student.name
    print(evaluate(student, FEW, options.output / name, given))
    print(evaluate(options.run / "pair", TEACHER, options.output / "teacher", given))


if __name__ == "__main__":
    main()
