"""Files and folders written whole or not at all, and what is wrong with a place before anything runs."""

import errno
import os
import re
import secrets
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

StrPath = str | os.PathLike[str]

SUFFIXES = (".mp4", ".gif", ".webp", "")
"""What a video's name may end in; "" is a folder of PNG files."""

_FRAME = re.compile(r"frame_(\d{3,})\.png")


def check_writable(path: StrPath, suffixes: Sequence[str] = SUFFIXES, clobber: bool = True) -> None:
    """Fails now if `path` could not be written later, and leaves nothing behind.

    `suffixes` are the accepted ones, "" for a folder of PNG files. Raises ValueError when the name itself will not do,
    OSError when the place will not, and FileExistsError without `clobber` when anything is there already.
    """
    target, suffix = target_of(path)
    if suffix not in suffixes:
        accepted = ", ".join(s or "no suffix (a folder of PNG files)" for s in suffixes)
        hint = "; a folder whose name has a dot ends in /" if "" in suffixes else ""
        raise ValueError(f"cannot write {str(path)!r}: unknown suffix {suffix!r}, accepted: {accepted}{hint}")
    _check_place(target, suffix == "", clobber)


def target_of(path: StrPath) -> tuple[Path, str]:
    """The file or folder that `path` names, and its suffix in lower case ("" for a folder)."""
    text = os.fspath(path)
    if any(ord(letter) < 32 for letter in text):
        raise ValueError(f"cannot write {text!r}: a name cannot hold control characters")
    target = Path(text)
    if not target.name.strip(" .-") or target.name.lower() in SUFFIXES:
        raise ValueError(f"cannot write {text!r}: it names no file; give one such as 'out.mp4'")
    folder = text.endswith(("/", os.sep)) or "." not in target.name
    return target, "" if folder else "." + target.name.rpartition(".")[2].lower()


def _check_place(target: Path, folder: bool = False, clobber: bool = True) -> None:
    """Raises OSError if `target` cannot be created or replaced."""

    def refuse(error: type[OSError], reason: str) -> None:
        raise error(f"cannot write {str(target)!r}: {reason}")

    place = Path(os.path.realpath(target))  # links are followed, and stay
    parent = place.parent
    try:
        nearest = next(above for above in place.parents if _exists(above))
        found = _exists(place)
    except OSError as error:  # a name too long, a loop of links
        raise OSError(error.errno, f"cannot write {str(target)!r}: {error.strerror}; choose another name") from None
    if not nearest.is_dir():
        refuse(NotADirectoryError, f"{str(nearest)!r} is not a folder; choose another place")
    if nearest != parent:
        remedy = f"mkdir -p {shlex.quote(str(parent))}"
        refuse(FileNotFoundError, f"folder {str(parent)!r} does not exist; create it first: {remedy}")
    if found and not clobber:
        refuse(FileExistsError, "it exists already; choose another name, or remove it first")
    if found and folder:
        if not place.is_dir():
            refuse(NotADirectoryError, "it exists and is not a folder; choose another name, or a suffix such as .mp4")
        strange = sorted(p.name for p in place.iterdir() if not _FRAME.fullmatch(p.name))
        if strange:
            refuse(FileExistsError, f"the folder holds other files ({strange[0]}); choose a new or an empty folder")
    elif found and not place.is_file():
        refuse(IsADirectoryError, "it exists and is not a regular file; choose another name")
    if found and not os.access(place, os.W_OK):
        refuse(PermissionError, "it exists and is write-protected; choose another name")
    probe = _beside(place)
    try:  # asking the file system is the only sure way
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = f"folder {str(parent)!r} is not writable ({error.strerror}); choose another place"
        raise OSError(error.errno, f"cannot write {str(target)!r}: {reason}") from None


def _exists(path: Path) -> bool:
    """Like `Path.exists`, which hides an impossible name in some versions of Python: that raises OSError here."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):  # the second: a file where a folder should be
        return False
    return True


def _beside(target: Path) -> Path:
    """A name for a temporary file or folder next to `target`, short so that it fits wherever `target` does."""
    return target.with_name(f".{secrets.token_hex(4)}.tmp")


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary path beside `target` that takes its place if the block succeeds and is removed if it does not."""
    target = Path(os.path.realpath(target))
    temporary, old = _beside(target), _beside(target)
    try:
        yield temporary
        if target.is_dir():  # a folder cannot be renamed onto a full one
            target.rename(old)
            temporary.rename(target)
        else:
            temporary.replace(target)
    except OSError as error:  # say which target, not which temporary file
        message = f"cannot write {str(target)!r}: {error.strerror or error}; nothing was changed there"
        raise OSError(error.errno or errno.EIO, message) from error
    finally:
        if old.exists() and not target.exists():  # stopped between the two renames
            old.rename(target)
        for path in (temporary, old):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def write_text(text: str, path: StrPath) -> None:
    """Writes `text` as UTF-8, atomically. Raises OSError naming path and remedy."""
    target, _ = target_of(path)
    _check_place(target)
    with replacing(target) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_image(image: Image.Image, path: StrPath) -> None:
    """Writes `image` as a .png file, atomically. Raises ValueError for another suffix, OSError naming path, remedy."""
    check_writable(path, (".png",))
    with replacing(target_of(path)[0]) as temporary:
        image.save(temporary, format="png")
