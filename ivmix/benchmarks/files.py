"""Files that are somebody else's: where they are on this machine, or how they come there.

What is downloaded by address is kept in a cache of ours, the folder that IVMIX_CACHE names or ~/.cache/ivmix, below the
hash that is known of it; what is of the hub, in the hub's own. A file that is there is read without a network.
"""

import hashlib
import os
import re
import sys
import warnings
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

from ivmix.models.checkpoints import hub
from ivmix.models.checkpoints.sources import locate, sha256

ADDRESSES = ("https://", "http://")
LONGEST_SOURCE = 1000  # characters
PATIENCE = 20  # seconds for a server's first answer


@dataclass(frozen=True)
class FileFrom:
    """`source` is an address, `hub:owner/name/file`, or a path; "" where only its reader can have it, as `hint` says.

    `sha256` is its hash, where it is known. ValueError for what is none, and where nothing says how to get the file.
    """

    source: str
    sha256: str = ""
    hint: str = ""

    def __post_init__(self) -> None:
        if not self.source and not self.hint:
            raise ValueError("source is empty: expected an address, hub:owner/name/file or a path, or a hint beside it")
        if len(self.source) > LONGEST_SOURCE or not self.source.isprintable():
            raise ValueError(f"source is {self.source[:60]!r}: too long for an address, or with control characters")
        if not re.fullmatch("([0-9a-f]{64})?", self.sha256):
            raise ValueError(f"sha256 is {self.sha256[:70]!r}: expected 64 of the digits 0-9a-f")
        if self.of_hub and not hub.parse(self.source).path:
            raise ValueError(f"source is {self.source!r}: expected hub:owner/name/file")

    @property
    def by_address(self) -> bool:
        return self.source.startswith(ADDRESSES)

    @property
    def of_hub(self) -> bool:
        return self.source.startswith("hub:")

    @property
    def kept(self) -> Path:
        """Where the cache has what is downloaded by address: no two files, whatever their names, in one place."""
        key = self.sha256 or hashlib.sha256(self.source.encode()).hexdigest()
        name = unquote(urlsplit(self.source).path).rpartition("/")[2]
        return cache() / key / (re.sub(r"[^\w.-]", "_", name)[-100:].strip(".") or "file")


@dataclass(frozen=True)
class State:
    """What `find` would do, in words: it finds the file "here", it would be a "download", or it is "missing"."""

    kind: Literal["here", "download", "missing"]
    text: str


def cache() -> Path:
    return Path(os.environ.get("IVMIX_CACHE") or "~/.cache/ivmix").expanduser()


def find(file: FileFrom, given: str | None, what: str, option: str) -> Path:
    """The file or folder on this machine: what is `given`, or else as `file` says, downloaded if need be.

    `what` it is and the `option` that takes its path are for errors, and for what is said on stderr. Warns of a given
    file that is not the known one. Raises FileNotFoundError, with what to do, for what cannot be had; ValueError for
    another file where none was given, and then keeps nothing of a download.
    """
    if given is not None:
        if not Path(given).exists():
            raise FileNotFoundError(_missing(file, given, what, option))
        if other := other_file(Path(given), file):
            warnings.warn(f"{what}: {other}", stacklevel=2)
        return Path(given)
    if file.by_address:
        return file.kept if _is_whole(file.kept, file) else _download(file, what, option)
    path = locate(file.source, "").weights if file.of_hub else Path(file.source)
    if not file.source or not path.exists():
        raise FileNotFoundError(_missing(file, given, what, option))
    if other := other_file(path, file):
        raise ValueError(f"{what}: {other}; if it is what you want, give its path by {option}")
    return path


def state(file: FileFrom, given: str | None, what: str, option: str) -> State:
    """What `find` of the same would do. Nothing is asked of a network."""
    path = Path(given) if given is not None else at_hand(file)
    if path is not None and path.exists():
        other = other_file(path, file)
        return State("missing" if other and given is None else "here", f"{what}: {other or path}")
    if given is None and (file.by_address or file.of_hub):
        return State("download", f"{what}: to be downloaded from {file.source}, or give its path by {option}")
    return State("missing", _missing(file, given, what, option))


def at_hand(file: FileFrom) -> Path | None:
    """Where the file is, or would be, without a network; None where nobody knows."""
    if file.by_address:
        return file.kept if _is_whole(file.kept, file) else None
    if not file.of_hub:
        return Path(file.source) if file.source else None
    place = hub.parse(file.source)
    found = (hub.stored(place, one) / place.path for one in hub.cached(place) if place.path in one.sizes)
    return next(found, None)


def _is_whole(path: Path, file: FileFrom) -> bool:
    return path.is_file() and not other_file(path, file)


def other_file(path: Path, file: FileFrom) -> str:
    """That what is there is not the known file, where it is not."""
    if not file.sha256 or not path.is_file() or (found := sha256(path)) == file.sha256:
        return ""
    return f"{path} is not the known file: its SHA-256 is {found}, expected {file.sha256}"


def _missing(file: FileFrom, given: str | None, what: str, option: str) -> str:
    if given is not None or not file.hint:
        return f"{what}: no file or folder {given or file.source}; give its path by {option}"
    return f"{what}: give its path by {option}: {file.hint}"


def _download(file: FileFrom, what: str, option: str) -> Path:
    """Into the cache, whole or not at all."""
    import torch.hub

    kept, address = file.kept, file.source
    try:
        size = _size(address)
        known = f"{size / 1e6:,.1f} MB" if size is not None else "of unknown size"
        sys.stderr.write(f"downloading {kept.name} ({known}) from {address}\n")
        cache().mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=cache(), prefix="download-") as folder:
            part = Path(folder, kept.name)
            torch.hub.download_url_to_file(address, str(part), progress=sys.stderr.isatty())
            if size is not None and part.stat().st_size != size:
                raise HTTPException(f"the connection ended after {part.stat().st_size:,} of {size:,} bytes")
            if file.sha256 and (found := sha256(part)) != file.sha256:
                raise ValueError(
                    f"{what}: {address} gives another file than the known one, of SHA-256 {found}, expected "
                    f"{file.sha256}; nothing of it is kept. If it is what you want, give its path by {option}"
                )
            kept.parent.mkdir(exist_ok=True)
            part.replace(kept)
    except (OSError, HTTPException) as error:
        reason = f"{type(error).__name__}: {(str(error).strip() or 'no reason given').splitlines()[0][:200]}"
        raise FileNotFoundError(
            f"{what} cannot be had ({address}: {reason}). Where there is a network, download that address; then put "
            f"the file at {kept}, or give its path by {option}"
        ) from None
    return kept


def _size(address: str) -> int | None:
    """In bytes, as the server says before it sends; None where it does not say."""
    ask = Request(address, method="HEAD", headers={"User-Agent": "ivmix"})
    try:
        with urlopen(ask, timeout=PATIENCE) as answer:
            length = answer.headers.get("Content-Length") or ""
            return int(length) if length.isdecimal() else None
    except HTTPError:
        return None  # whether it sends is asked next
