"""Devices by name."""

import torch

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def find_device(name: torch.device | str) -> torch.device:
    """The device of that name, once it has added two numbers. Raises ValueError for one that is not here or cannot."""
    try:
        device = torch.device(name)
        torch.ones(1, device=device).add(1).item()
    except Exception as error:  # every backend has errors of its own, of up to 7,000 characters
        reason = str(error).splitlines()[0].partition(". ")[0]
        because = f" ({reason})" if len(reason) <= 100 else ""
        raise ValueError(f"device {str(name)!r}: not available here{because}; there is {', '.join(here())}") from None
    return device


def dtype_name(dtype: torch.dtype) -> str:
    """"float16" of torch.float16."""
    return str(dtype).removeprefix("torch.")


def here() -> list[str]:
    """Names of the devices that this machine and this build of torch have."""
    accelerator = torch.accelerator.current_accelerator()
    count = torch.accelerator.device_count() if accelerator is not None else 0
    return ["cpu", *(f"{accelerator}:{k}" for k in range(count))]
