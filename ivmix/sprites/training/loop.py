"""One training loop: AdamW, warm-up and cosine decay, an exponential moving average, resumable after a kill.

A step's data come from a generator seeded by (seed, stage, step), so nothing but weights, optimiser and step number has
to be kept to resume exactly where a run stopped.
"""

import copy
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from ivmix.progress import progress_bar

Loss = Callable[[nn.Module, torch.Generator, float], tuple[Tensor, dict[str, Tensor]]]


@dataclass(frozen=True)
class Settings:
    """How one network is trained. `rates` multiplies the learning rate of parameters whose name contains the key."""

    steps: int
    learning_rate: float = 1e-3
    warmup: int = 100
    weight_decay: float = 0.01
    ema_decay: float = 0.999
    clip_norm: float = 1.0
    rates: dict[str, float] = field(default_factory=dict)
    save_every: int = 200
    log_every: int = 20


def step_generator(seed: int, stage: str, step: int) -> torch.Generator:
    """The only source of randomness of one training step, on the CPU."""
    digest = hashlib.sha256(f"{seed}/{stage}/{step}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def rate_at(step: int, settings: Settings) -> float:
    """Linear warm-up, then half a cosine down to 2 % of the learning rate."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    progress = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))


def parameter_groups(network: nn.Module, rates: dict[str, float]) -> Iterator[dict[str, object]]:
    """One group a rate; a parameter belongs to the first key its name contains, to rate 1 otherwise."""
    buckets: dict[float, list[Tensor]] = {}
    for name, parameter in network.named_parameters():
        rate = next((r for key, r in rates.items() if key in name), 1.0)
        buckets.setdefault(rate, []).append(parameter)
    for rate, parameters in buckets.items():
        yield {"params": parameters, "rate": rate}


def train(
    stage: str, network: nn.Module, loss: Loss, settings: Settings, folder: Path, seed: int = 0, position: int = 0
) -> nn.Module:
    """Trains `network` in place and returns its moving average, in evaluation mode and frozen.

    `loss(network, generator, progress)` returns the loss and what to log. `folder/stage.pt` is the resumable state,
    `folder/stage.jsonl` the curve. A stage that is already finished is only read back. Raises FloatingPointError when
    the loss is no longer finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state_file, log_file = folder / f"{stage}.pt", folder / f"{stage}.jsonl"
    device = next(network.parameters()).device
    average = copy.deepcopy(network).requires_grad_(False)
    optimiser = torch.optim.AdamW(
        parameter_groups(network, settings.rates), lr=settings.learning_rate, betas=(0.9, 0.99),
        weight_decay=settings.weight_decay, fused=True,
    )  # fmt: skip
    start = 0
    if state_file.exists():
        state = torch.load(state_file, map_location=device, weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        start = state["step"]
        _cut_log(log_file, start)

    network.train()
    bar = progress_bar(settings.steps, initial=start, desc=stage, position=position)
    for step in range(start, settings.steps):
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * group["rate"] * rate_at(step, settings)
        value, logged = loss(network, step_generator(seed, stage, step), step / settings.steps)
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        norm = nn.utils.clip_grad_norm_(network.parameters(), settings.clip_norm)
        optimiser.step()
        _average(average, network, min(settings.ema_decay, (1 + step) / (10 + step)))
        bar.update()
        if step % settings.log_every == 0 or step == settings.steps - 1:
            figures = {"loss": value.detach(), "gradient_norm": norm, **logged}
            row = {"step": step, **{name: round(float(x), 6) for name, x in figures.items()}}
            if not math.isfinite(row["loss"]):
                raise FloatingPointError(f"stage {stage}: loss {row['loss']} at step {step}; lower the learning rate")
            with log_file.open("a") as log:
                log.write(json.dumps(row) + "\n")
            bar.set_postfix(loss=f"{row['loss']:.4f}")
        if (step + 1) % settings.save_every == 0 or step == settings.steps - 1:
            state = {"network": network.state_dict(), "average": average.state_dict(),
                     "optimiser": optimiser.state_dict(), "step": step + 1}  # fmt: skip
            torch.save(state, state_file.with_suffix(".part"))
            os.replace(state_file.with_suffix(".part"), state_file)
    bar.close()
    return average.eval()


@torch.no_grad()
def _average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """average <- decay * average + (1 - decay) * network, in two fused calls."""
    ours: list[Tensor] = list(average.parameters())
    theirs: list[Tensor] = list(network.parameters())
    torch._foreach_lerp_(ours, theirs, 1 - decay)


def _cut_log(path: Path, step: int) -> None:
    """Drops what was logged after the saved state, so that a resumed curve has no double lines."""
    rows = read_log(path)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows if row["step"] < step))


def read_log(path: Path) -> list[dict[str, float]]:
    """The rows of a training curve; a last line cut short by a kill is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
