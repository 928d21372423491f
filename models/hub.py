"""Files of public repositories: `hub:owner/name[/path][@revision]` through huggingface_hub and its cache."""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ivmix.models.folder import choose


@dataclass(frozen=True)
class Place:
    """`path` is a folder of the repository or a file in it; empty: the repository itself."""

    repo: str
    path: str
    revision: str | None

    def __str__(self) -> str:
        return f"hub:{self.repo}{self.path and '/' + self.path}{'@' + self.revision if self.revision else ''}"


TOKENIZER = ("tokenizer.json", "vocab.json", "merges.txt", "special_tokens_map.json", "tokenizer_config.json")


class MissingError(FileNotFoundError):
    """Files of a repository that can be had neither from the hub nor from its cache, and why."""

    def __init__(self, place: Place, files: Sequence[str], reason: str) -> None:
        self.place, self.files, self.reason = place, tuple(files), reason
        super().__init__(
            f"{place} cannot be had ({reason}), and the cache {cache()} lacks {', '.join(files)}. Where there is a "
            f"network, run `{self.command}`; then bring that cache here, or put these files into a folder and give its "
            "path instead"
        )

    @property
    def command(self) -> str:
        return f"hf download {self.place.repo} {' '.join(self.files)}"


def cache() -> str:
    import huggingface_hub

    return huggingface_hub.constants.HF_HUB_CACHE


def parse(source: str) -> Place:
    """
    >>> parse("hub:guoyww/animatediff/mm_sd_v15_v2.ckpt@main")
    Place(repo='guoyww/animatediff', path='mm_sd_v15_v2.ckpt', revision='main')
    """
    match = re.fullmatch(r"hub:([\w.-]+/[\w.-]+)((?:/[\w.-]+)*)/?(?:@([\w./-]+))?", source)
    if match is None or ".." in source.split("/"):
        raise ValueError(f"source {source!r}: expected hub:owner/name, hub:owner/name/folder or …/file, then @revision")
    return Place(match[1], match[2].removeprefix("/"), match[3])


def fetch(source: str, part: str, variant: str | None = None) -> Path:
    """The local file of weights that `source` names, with its config.json beside it if the source is a folder.

    `part` is "unet", "vae", "text_encoder", "motion", or "tokenizer", of which any file stands for all. Downloads what
    the cache lacks, after saying on stderr what and from where. Raises ValueError for a source that is none,
    FileNotFoundError with the repository, the files and what to do for anything that cannot be had.
    """
    import huggingface_hub

    place = parse(source)
    try:
        info = huggingface_hub.HfApi().model_info(place.repo, revision=place.revision, files_metadata=True, timeout=20)
    except Exception as error:  # no network, no such repository, no permission: the cache may still hold the files
        return _from_cache(place, part, variant, error)
    sizes = {file.rfilename: file.size for file in info.siblings or ()}
    wanted = _wanted(place, sizes, part, variant)
    missing = {n: sizes[n] for n in wanted if not isinstance(_cached(place.repo, n, info.sha), str)}
    if missing:
        _announce(place, missing)
    try:
        local = [huggingface_hub.hf_hub_download(place.repo, name, revision=info.sha) for name in wanted]
    except Exception as error:
        raise MissingError(place, list(missing), _reason(place, error)) from None
    return Path(local[0])


def settle(source: str, part: str, variant: str | None) -> str | None:
    """Fetches a file of `variant` as `fetch` does; where it cannot be had, another that an earlier download left will
    do, which a line on stderr names. Returns the variant to load: the one asked for, or None."""
    try:
        fetch(source, part, variant)
    except MissingError as error:
        other = _in_cache(error.place, part, None) if variant else None
        if other is None:
            raise
        sys.stderr.write(f"{source}: {other.name} of the cache in place of the {variant} file ({error.reason})\n")
        sys.stderr.flush()
        return None
    return variant


def _wanted(place: Place, names: Mapping[str, object], part: str, variant: str | None) -> list[str]:
    """The file of weights, then what belongs to it: config.json, shards."""
    if place.path in names:
        beside = str(PurePosixPath(place.path).with_name("adapter_config.json"))  # PEFT's: what scales a LoRA
        chosen, config = place.path, [beside] if beside in names else []
    else:
        prefix = place.path and place.path + "/"
        here = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
        if not here:
            raise FileNotFoundError(f"{place}: the repository holds no such folder or file, only {_few(names)}")
        if part == "tokenizer":
            if not (files := [prefix + name for name in TOKENIZER if name in here]):
                raise FileNotFoundError(f"{place} holds no tokenizer.json, and no vocab.json with merges.txt")
            return files
        chosen = prefix + choose(here, part, variant, place)
        config = [str(PurePosixPath(chosen).with_name("config.json"))]
        if config[0] not in names:
            raise FileNotFoundError(f"{place} holds no {config[0]}: name a single file, such as {place}/{chosen}")
    if not chosen.endswith(".json"):
        return [chosen, *config]
    stem, _, rest = chosen.partition(".")  # an index, and shards called stem[.variant]-00001-of-00002.extension
    extension = "bin" if ".bin." in f".{rest}" else "safetensors"
    shard = re.compile(rf"{re.escape(stem)}(\.[\w-]+?)?-\d+-of-\d+\.{extension}")
    of_variant = f".{variant}" if variant else ""
    shards = [n for n in names if (m := shard.fullmatch(n)) and (m[1] or "") == of_variant]
    return [chosen, *config, *shards]


def _cached(repo: str, name: str, revision: str | None) -> object:
    import huggingface_hub

    return huggingface_hub.try_to_load_from_cache(repo, name, revision=revision)


def _in_cache(place: Place, part: str, variant: str | None) -> Path | None:
    """What an earlier download left."""
    import huggingface_hub

    try:
        root = Path(huggingface_hub.snapshot_download(place.repo, revision=place.revision, local_files_only=True))
        names = {path.relative_to(root).as_posix(): None for path in root.rglob("*") if path.is_file()}
        return root / _wanted(place, names, part, variant)[0]
    except (OSError, ValueError):  # no snapshot, or none that holds the files
        return None


def _from_cache(place: Place, part: str, variant: str | None, error: Exception) -> Path:
    """What an earlier download left, when the hub does not answer."""
    if (path := _in_cache(place, part, variant)) is not None:
        return path
    if PurePosixPath(place.path).suffix in (".safetensors", ".ckpt", ".pth", ".pt", ".bin"):
        files = [place.path]
    else:
        folder = place.path or ("" if part == "motion" else part)  # an adapter has a repository to itself
        prefix = folder and folder + "/"
        stem = "model" if part == "text_encoder" else "diffusion_pytorch_model"
        weights = f"{stem}{'.' + variant if variant else ''}.safetensors"
        files = [prefix + name for name in (TOKENIZER[1:] if part == "tokenizer" else ("config.json", weights))]
    raise MissingError(place, files, _reason(place, error)) from None


def _reason(place: Place, error: Exception) -> str:
    kind, url = type(error).__name__, f"https://huggingface.co/{place.repo}"
    return {
        "GatedRepoError": f"gated: accept its licence at {url} and run `hf auth login`",
        "RepositoryNotFoundError": "no such repository, or a private one: check the name, or run `hf auth login`",
        "RevisionNotFoundError": f"the repository has no revision {place.revision}",
        "OfflineModeIsEnabled": "HF_HUB_OFFLINE is set",
    }.get(kind, f"{kind}: {(str(error).strip() or 'no reason given').splitlines()[0][:200]}")


def _announce(place: Place, missing: Mapping[str, int | None]) -> None:
    known = [size for size in missing.values() if size is not None]
    size = f"{sum(known) / 1e6:,.1f} MB" if len(known) == len(missing) else "of unknown size"
    sys.stderr.write(
        f"downloading {', '.join(missing)} ({size}) from https://huggingface.co/{place.repo}\n"
    )
    sys.stderr.flush()


def _few(names: Mapping[str, object], shown: int = 8) -> str:
    weights = [name for name in names if name.endswith((".safetensors", ".ckpt", ".pth", ".pt", ".bin"))]
    return ", ".join(weights[:shown]) or "no weights"
