"""What a loaded pair says of itself and a record keeps: the files that were read, and what its models were run as."""

from typing import Any, NotRequired, TypedDict


class Pin(TypedDict):
    """Size in bytes and hash of a file."""

    bytes: int
    sha256: str


class Read(TypedDict):
    """What was read of a source, by name, and the hub's commit if it is there."""

    commit: str | None
    files: dict[str, Pin]


# What a model was run as, and where prediction and schedule are said to be so; the rest is as in pair.json.
RunAs = TypedDict("RunAs", {
    "prediction": str, "schedule": dict[str, Any], "from": dict[str, str], "clip_skip": int, "fps": float | None,
    "latent_size": int | None, "motion_norm": str | None, "consistency": NotRequired[bool],
    "text_norm": NotRequired[bool], "empty_prompt": NotRequired[str],  # where two encoders read, like the next
    "original_size": NotRequired[list[int] | None], "target_size": NotRequired[list[int] | None],
    "bridge": NotRequired[dict[str, Any]],
})  # fmt: skip
