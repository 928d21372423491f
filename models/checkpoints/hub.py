"""Files of public repositories: `hub:owner/name[/path][@revision]` through huggingface_hub and its cache.

The hub is asked once a run for each repository, and the commit that it names is what is read: files of it that the
cache holds are not asked for again. Where the hub does not answer, the cache says which commit it is (`cached`).
"""

import re
import shlex
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from ivmix.models.checkpoints.folders import PICKLES, SAFETENSORS, Local, choose, shards

TOKENIZER = ("tokenizer.json", "vocab.json", "merges.txt", "special_tokens_map.json", "tokenizer_config.json",
             "spiece.model")  # fmt: skip
SCHEDULER = "scheduler_config.json"
BUSY = (408, 429, 500, 502, 503, 504)  # answers that another try may better
MAIN = "main"


@dataclass(frozen=True)
class Place:
    """`path` is a folder of the repository or a file in it; empty: the repository itself."""

    repo: str
    path: str
    revision: str | None

    def __str__(self) -> str:
        return f"hub:{self.repo}{self.path and '/' + self.path}{'@' + self.revision if self.revision else ''}"

    def __truediv__(self, name: str) -> "Place":
        return replace(self, path=self.prefix + name)

    @property
    def prefix(self) -> str:
        return self.path and self.path + "/"


@dataclass(frozen=True)
class Snapshot:
    """What a repository holds at one commit, by name and size in bytes; of one in the cache, what was downloaded."""

    commit: str
    sizes: Mapping[str, int | None]


@dataclass(frozen=True)
class Answer:
    """The commit that the hub names, or those in the cache, the likeliest first, and why the hub did not say."""

    snapshots: Sequence[Snapshot]
    fault: Exception | None = None


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
        revision = f" --revision {self.place.revision}" if self.place.revision else ""
        include = "--include " if any("*" in name for name in self.files) else ""
        return f"hf download {self.place.repo} {include}{shlex.join(self.files)}{revision}"


def parse(source: str) -> Place:
    """
    >>> parse("hub:guoyww/animatediff/mm_sd_v15_v2.ckpt@refs/pr/5")
    Place(repo='guoyww/animatediff', path='mm_sd_v15_v2.ckpt', revision='refs/pr/5')
    """
    match = re.fullmatch(r"hub:([\w.-]+/[\w.-]+)((?:/[\w.-]+)*)/?(?:@([\w./-]+))?", source)
    if match is None or ".." in re.split("[/@]", source):
        raise ValueError(f"source {source!r}: expected hub:owner/name, hub:owner/name/folder or …/file, then @revision")
    return Place(match[1], match[2].removeprefix("/"), match[3])


@dataclass
class Hub:
    """The hub as one run sees it: asked once for each repository, and no more once it cannot be reached.

    Of a repository that is named without a revision, that of `commits` is read, if it can be had.
    """

    commits: Mapping[str, str] = field(default_factory=dict)  # by repository
    answers: dict[tuple[str, str | None], Answer] = field(default_factory=dict)
    gone: Exception | None = None  # why the hub cannot be reached
    said: set[str] = field(default_factory=set)
    plain: dict[tuple[str, str], list[str]] = field(default_factory=dict)  # by variant and who lacks it, see tell_plain
    pauses: tuple[float, ...] = (1, 2)  # seconds before a busy hub is asked again

    def fetch(
        self, source: str, part: str, variant: str | None = None, fall_back: bool = False, sharded: bool = False
    ) -> Local:
        """The files of one part that `source` names, on this machine.

        `part` is as `locate` has it. Downloads what the cache lacks, after saying on stderr what and from where.
        `fall_back` takes the plain file where there is none of that `variant`, which `tell_plain` says; `sharded` says
        that the weights are in several files, of which only a hub that answers knows how many. Raises ValueError for a
        source that is none, FileNotFoundError with the repository, the files and what to do for anything that cannot be
        had.
        """
        place = self.place(source)
        answer = self.ask(place)
        refusal: FileNotFoundError | None = None
        lacking = list[str]()
        for kind in dict.fromkeys((variant, None)) if fall_back else (variant,):
            for snapshot in answer.snapshots:
                try:
                    names = files_of(place, snapshot.sizes, part, kind)
                    if ".index." in names[0]:
                        if answer.fault is None:
                            self._download(place, snapshot, names)
                        found = shards_named(place, snapshot, names[0])
                        if lost := [name for name in found if name not in snapshot.sizes]:
                            lacking = lacking or lost
                            raise FileNotFoundError(f"{place}: its {names[0]} names {_few(lost)}, which are not there")
                        names += found
                except MissingError:
                    raise
                except FileNotFoundError as error:
                    refusal = refusal or error
                    continue
                if answer.fault is None:
                    self._download(place, snapshot, names)
                else:
                    self._tell_cached(place, snapshot, answer.fault)
                if variant is not None and kind is None:
                    who = "the repository" if answer.fault is None else "the cache"
                    self.plain.setdefault((variant, who), []).append(str(replace(place, path=names[0])))
                return local(source, place, snapshot, names, kind)
        if answer.fault is None:
            assert refusal is not None
            raise refusal
        raise MissingError(place, lacking or guess(place, part, variant, sharded), reason(place, answer.fault))

    def tell_plain(self) -> None:
        """Says, in one line, which plain files were read in place of those of a variant."""
        for (variant, who), files in self.plain.items():
            self._say(f"{', '.join(files)}: read in place of what {who} does not hold of variant {variant}")
        self.plain.clear()

    def names(self, source: str) -> list[str]:
        """What the repository holds below a source, by name; where the hub does not answer, as far as the cache knows.
        Raises FileNotFoundError where neither knows the repository."""
        place = self.place(source)
        answer = self.ask(place)
        for snapshot in answer.snapshots:
            return [name.removeprefix(place.prefix) for name in snapshot.sizes if name.startswith(place.prefix)]
        assert answer.fault is not None
        raise FileNotFoundError(
            f"{place} cannot be had ({reason(place, answer.fault)}), and the cache {cache()} holds nothing of it"
        )

    def place(self, source: str) -> Place:
        """What a source names, at the commit that is wanted of it."""
        place = parse(source)
        if place.revision is None and (commit := self.commits.get(place.repo)) is not None:
            exact = replace(place, revision=commit)
            return exact if self.ask(exact).snapshots else place
        return place

    def ask(self, place: Place) -> Answer:
        """What there is of a repository at a revision. Never raises for a hub that does not answer."""
        key = place.repo, place.revision
        if key not in self.answers:
            self.answers[key] = self._ask(place)
        return self.answers[key]

    def _ask(self, place: Place) -> Answer:
        import huggingface_hub

        if self.gone is not None:
            return Answer(cached(place), self.gone)
        for pause in (*self.pauses, None):
            try:
                info = huggingface_hub.HfApi().model_info(
                    place.repo, revision=place.revision, files_metadata=True, timeout=20
                )
            except huggingface_hub.errors.HFValidationError as error:
                raise ValueError(f"source {place}: {str(error).splitlines()[0]}") from None
            except huggingface_hub.errors.HfHubHTTPError as error:  # the hub answers, but not with what was asked for
                if error.response.status_code in BUSY and pause is not None:
                    time.sleep(pause)
                    continue
                return Answer(cached(place), error)
            except Exception as error:  # no network, no such host, no hub there: the other repositories fare no better
                self.gone = error
                return Answer(cached(place), error)
            sizes = {file.rfilename: file.size for file in info.siblings or ()}
            return Answer([Snapshot(str(info.sha), sizes)])
        raise AssertionError("the last try has no pause")

    def _download(self, place: Place, snapshot: Snapshot, names: Sequence[str]) -> None:
        """Brings the files of one commit into the cache, and leaves there, for a time without network, that it is the
        commit which the revision names."""
        import huggingface_hub

        here = stored(place, snapshot)
        missing = {name: snapshot.sizes[name] for name in names if not (here / name).is_file()}
        if missing:
            self._say(announcement(place, missing))
        revision = place.revision or MAIN
        try:
            for name in missing:
                huggingface_hub.hf_hub_download(place.repo, name, revision=snapshot.commit)
            if not snapshot.commit.startswith(revision) and ref(place) != snapshot.commit:
                huggingface_hub.hf_hub_download(place.repo, names[-1], revision=revision)
        except Exception as error:
            if all((here / name).is_file() for name in names):
                return  # the cache is read-only, or the hub is gone meanwhile: all that is wanted is there
            raise MissingError(place, list(missing), reason(place, error)) from None

    def _tell_cached(self, place: Place, snapshot: Snapshot, fault: Exception) -> None:
        if type(fault).__name__ != "OfflineModeIsEnabled" or snapshot.commit not in (place.revision, ref(place)):
            whole = replace(place, path="")
            self._say(f"{whole}: commit {snapshot.commit} of the cache is read ({reason(place, fault)})")

    def _say(self, text: str) -> None:
        if text not in self.said:
            self.said.add(text)
            sys.stderr.write(text + "\n")
            sys.stderr.flush()


def fetch(source: str, part: str, variant: str | None = None) -> Local:
    """`Hub.fetch`, of a hub not asked before."""
    return Hub().fetch(source, part, variant)


# --- which files ----------------------------------------------------------------------------------------------------


def files_of(place: Place, names: Mapping[str, object], part: str, variant: str | None) -> list[str]:
    """The file of weights or the index of its shards, then what belongs to it, but for these. FileNotFoundError for
    what is not there."""
    if place.path in names:
        beside = str(PurePosixPath(place.path).with_name("adapter_config.json"))  # PEFT's: what scales a LoRA
        return [place.path, *([beside] if beside in names and not place.path.endswith(".json") else [])]
    here = [name.removeprefix(place.prefix) for name in names if name.startswith(place.prefix)]
    if not here:
        raise FileNotFoundError(f"{place}: the repository holds no such folder or file, only {_few(names)}")
    kind = part.removesuffix("_2")
    if kind in ("tokenizer", "scheduler"):
        known = TOKENIZER if kind == "tokenizer" else (SCHEDULER,)
        if not (files := [place.prefix + name for name in known if name in here]):
            others = "tokenizer.json, no vocab.json with merges.txt, and no spiece.model"
            expected = others if kind == "tokenizer" else SCHEDULER
            raise FileNotFoundError(f"{place} holds no {expected}")
        return files
    chosen = place.prefix + choose(here, part, variant, place)
    config = str(PurePosixPath(chosen).with_name("config.json"))
    if config not in names:
        raise FileNotFoundError(
            f"{place} holds no {config}: name a single file, such as {replace(place, path=chosen)}"
        )
    return [chosen, config]


def guess(place: Place, part: str, variant: str | None, sharded: bool = False) -> list[str]:
    """What to download of a repository that nobody knows, by the names that such files have, or a pattern of them."""
    if PurePosixPath(place.path).suffix in (SAFETENSORS, *PICKLES, ".json"):
        return [place.path]
    below = place.prefix or ("" if part in ("", "motion") else f"{part}/")  # an adapter has a repository to itself
    kind = part.removesuffix("_2")
    stem = "model" if kind == "text_encoder" else "diffusion_pytorch_model"
    if kind == "tokenizer" or sharded:
        return [f"{below}*"]  # one pattern: versions of the command differ in how they take several
    weights = "config.json", f"{stem}{'.' + variant if variant else ''}.safetensors"
    return [below + name for name in {"scheduler": (SCHEDULER,)}.get(kind, weights)]


# --- the cache ------------------------------------------------------------------------------------------------------


def cache() -> str:
    import huggingface_hub.constants

    return str(huggingface_hub.constants.HF_HUB_CACHE)


def folder(repo: str) -> Path:
    """Where the cache keeps a repository: snapshots/<commit>/<files>, and refs/<revision>, a file with a commit."""
    return Path(cache(), f"models--{repo.replace('/', '--')}")


def stored(place: Place, snapshot: Snapshot) -> Path:
    return folder(place.repo) / "snapshots" / snapshot.commit


def ref(place: Place) -> str | None:
    """The commit that a revision named when the cache last heard of it."""
    path = folder(place.repo) / "refs" / (place.revision or MAIN)
    return path.read_text().strip() if path.is_file() else None


def cached(place: Place) -> list[Snapshot]:
    """The snapshots in the cache that may be meant, the likeliest first.

    A revision that is a commit, or begins one, means that one alone; a branch or tag the commit it named when the cache
    last heard of it. Downloads by commit leave no such word behind: for the main branch, the newest snapshots that no
    other revision names come next.
    """
    refs, revision = folder(place.repo) / "refs", place.revision or MAIN
    there = {path.name: path for path in folder(place.repo).glob("snapshots/*") if path.is_dir()}
    named = ref(place)
    if named is None and re.fullmatch(r"[0-9a-f]{7,40}", revision):
        commits = [commit for commit in there if commit.startswith(revision)]
    else:
        commits = [commit for commit in (named,) if commit in there]
    if revision == MAIN:
        others = {path.read_text().strip() for path in refs.rglob("*") if path.is_file()}
        rest = [commit for commit in there if commit not in others]
        commits += sorted(rest, key=lambda commit: there[commit].stat().st_mtime, reverse=True)
    return [Snapshot(commit, _listed(there[commit])) for commit in commits]


def _listed(root: Path) -> dict[str, int | None]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {path.relative_to(root).as_posix(): path.stat().st_size for path in files}


def shards_named(place: Place, snapshot: Snapshot, index: str) -> list[str]:
    """The shards that an index in the cache points to."""
    return [str(PurePosixPath(index).with_name(path.name)) for path in shards(stored(place, snapshot) / index)]


def local(source: str, place: Place, snapshot: Snapshot, names: Sequence[str], variant: str | None) -> Local:
    here = stored(place, snapshot)
    files = tuple(here / name for name in names)
    root = here / place.path
    return Local(source, root.parent if root in files else root, files, variant, snapshot.commit)


# --- words ----------------------------------------------------------------------------------------------------------


def address(repo: str) -> str:
    """Where a repository is found: the public hub, or what HF_ENDPOINT puts in its place."""
    import huggingface_hub.constants

    return f"{huggingface_hub.constants.ENDPOINT}/{repo}"


def reason(place: Place, error: Exception) -> str:
    """Why the hub did not give something, in a few words."""
    kind, url = type(error).__name__, address(place.repo)
    return {
        "GatedRepoError": f"gated: accept its licence at {url} and run `hf auth login`",
        "RepositoryNotFoundError": f"{url}: no such repository, or a private one: check the name, or run "
        "`hf auth login`",
        "RevisionNotFoundError": f"{url} has no revision {place.revision}",
        "OfflineModeIsEnabled": "HF_HUB_OFFLINE is set",
    }.get(kind, f"{url}: {kind}: {(str(error).strip() or 'no reason given').splitlines()[0][:200]}")


def announcement(place: Place, missing: Mapping[str, int | None]) -> str:
    known = [size for size in missing.values() if size is not None]
    size = f"{sum(known) / 1e6:,.1f} MB" if len(known) == len(missing) else "of unknown size"
    revision = f" at {place.revision}" if place.revision else ""
    return f"downloading {', '.join(missing)} ({size}) from {address(place.repo)}{revision}"


def _few(names: Iterable[str], shown: int = 8) -> str:
    weights = [name for name in names if name.endswith((SAFETENSORS, *PICKLES))]
    return ", ".join(weights[:shown]) or "no weights"
