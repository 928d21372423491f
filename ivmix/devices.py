"""Devices and their number types by name."""

import torch

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def find_device(name: torch.device | str) -> torch.device:
    """The device of that name, once it has added two numbers; "auto" is the accelerator (cuda, mps, xpu, …) of a
    machine that has one, else its CPU. Raises ValueError for one that is not here or cannot."""
    try:
        accelerator = torch.accelerator.current_accelerator(check_available=True) if name == "auto" else None
        device = accelerator or torch.device("cpu" if name == "auto" else name)
        torch.ones(1, device=device).add(1).item()
    except Exception as error:
        message = f"device {str(name)!r}: not available here{_reason(error)}; there is {', '.join(here())}"
        raise ValueError(message) from None
    return device


def find_dtype(name: torch.dtype | str, device: torch.device, own: str | None = None) -> torch.dtype:
    """The floating-point type of that name, once `device` has added two numbers of it: MPS has no float64.

    "auto" is a pair's `own` on an accelerator that computes in it, and otherwise float32: on the CPU, where narrower
    types are slow, for a pair that names none, and for bfloat16 where it is only imitated. ValueError for another.
    """
    if name == "auto":
        wanted = getattr(torch, own) if own is not None and device.type != "cpu" else torch.float32
        return wanted if _computes(device, wanted) else torch.float32
    found = getattr(torch, name, None) if isinstance(name, str) else name
    if found not in DTYPES:
        raise ValueError(f"dtype {name!r}: expected one of {', '.join(map(dtype_name, DTYPES))}")
    try:
        torch.ones(1, device=device, dtype=found).add(1).item()
    except Exception as error:
        raise ValueError(f"dtype {dtype_name(found)}: {device} does not know it{_reason(error)}") from None
    return found


def at_least(dtype: torch.dtype, narrowest: torch.dtype | None) -> torch.dtype:
    """`dtype`, or what is wide enough for both."""
    return dtype if narrowest is None else torch.promote_types(dtype, narrowest)


def dtype_name(dtype: torch.dtype) -> str:
    """"float16" of torch.float16."""
    return str(dtype).removeprefix("torch.")


def here() -> list[str]:
    """Names of the devices that this machine and this build of torch have."""
    accelerator = torch.accelerator.current_accelerator()
    count = torch.accelerator.device_count() if accelerator is not None else 0
    return ["cpu", *(f"{accelerator}:{k}" for k in range(count))]


def _computes(device: torch.device, dtype: torch.dtype) -> bool:
    if device.type == "cuda" and dtype == torch.bfloat16:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        find_dtype(dtype, device)
    except ValueError:
        return False
    return True


def _reason(error: Exception) -> str:
    """The first sentence, if it is a short one: every backend has errors of its own, of up to 7,000 characters."""
    reason = str(error).partition("\n")[0].partition(". ")[0]
    return f" ({reason})" if 0 < len(reason) <= 100 else ""
