"""What a benchmark takes of others' files: which are there, which would be downloaded, which are missing."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ivmix.benchmarks.description import Description
from ivmix.benchmarks.files import State, at_hand, state
from ivmix.benchmarks.prompts import Prompt, nested, read_prompts
from ivmix.benchmarks.setup import Given, by_protocol, check_measured, given_files, labelled, named, real_files
from ivmix.evaluation.paper import metrics
from ivmix.evaluation.protocols import PROTOCOLS
from ivmix.models.checkpoints import hub
from ivmix.pairs.parts import named as named_parts
from ivmix.pairs.sizes import total

WHERE = {  # networks that measure, as their users have them
    "torchscript": "i3d_torchscript.pt, hub:flateon/FVD-I3D-torchscript/i3d_torchscript.pt; a program, which is run",
    "i3d": "i3d_pretrained_400.pt of github.com/songweige/TATS, tats/fvd",
    "videomae": "vit_g_hybrid_pt_1200e_ssv2_ft.pth, hub:OpenGVLab/InternVideoMAE_models/…",
    "umt": "UMT-msrvtt-7k.pth, hub:lyx97/UMT-msrvtt-7k/ckpt_best.pth",
}
VOCABULARY = "BERT's vocab.txt, hub:google-bert/bert-large-uncased/vocab.txt"


def needs(description: Description, given: Given) -> tuple[tuple[State, ...], tuple[Prompt, ...] | None]:
    """Prompts, networks that measure, references, clips that are files; and the prompts, in their order, where they can
    be read. Nothing is downloaded. ValueError for what the benchmark has no use for."""
    check_measured(description, given)
    said, prompts = _prompts(description, given)
    found = [said, *_networks(description, given), *_references(description, given, prompts)]
    if description.scores:
        what = f"vocabulary, for {', '.join(metrics()[name].label for name in description.scores)}"
        found.append(_source(what, given.vocabulary, f"give it by --vocabulary: {VOCABULARY}"))
    return (*dict.fromkeys(found), *_videos(description, given, prompts)), prompts


def _prompts(description: Description, given: Given) -> tuple[State, tuple[Prompt, ...] | None]:
    file, format = description.prompts.file, description.prompts.format
    said = state(file, given.prompts, "prompts", "--prompts")
    path = Path(given.prompts) if given.prompts is not None else at_hand(file)
    if said.kind != "here" or path is None:
        return said, None
    try:
        return said, nested(read_prompts(path, format), description.name)
    except (OSError, ValueError) as error:
        return State("missing", f"prompts: {error}"), None


def _networks(description: Description, given: Given) -> Iterator[State]:
    for protocol in dict.fromkeys(description.distances.values()):
        extraction = PROTOCOLS[protocol].extraction
        assert extraction is not None
        shown = [metrics()[name].label for name, one in description.distances.items() if one == protocol]
        shown += [metrics()[name].label for name in description.scores if extraction.network == "umt"]
        otherwise = f"give it by --extractor {protocol}=FILE: {WHERE[extraction.network]}"
        yield _source(f"network of {protocol}, for {', '.join(shown)}", given.extractors.get(protocol), otherwise)


def _source(what: str, source: str | None, otherwise: str) -> State:
    """A file, or one of the hub; `otherwise` how to give it."""
    if source is None:
        return State("missing", f"{what}: {otherwise}")
    if source.startswith("hub:"):
        return State("here" if hub.cached(hub.parse(source)) else "download", f"{what}: {source}")
    return _place(what, source)


def _place(what: str, path: str) -> State:
    return State("here", f"{what}: {path}") if Path(path).exists() else State("missing", f"{what}: no file {path}")


def _references(description: Description, given: Given, prompts: Sequence[Prompt] | None) -> Iterator[State]:
    reference, pools = description.reference, by_protocol(given.pool, "--pool")
    stored, folders = by_protocol(given_files(given.real), "--real"), any(Path(one).is_dir() for one in given.real)
    for protocol in dict.fromkeys(description.distances.values()):
        what = f"features of the reference by {protocol}"
        if protocol in stored:
            yield _place(what, stored[protocol])
        elif folders:
            yield _real(description, given, prompts)
        elif protocol in reference.features:
            yield state(reference.features[protocol], None, what, "--real")
        else:
            hint = f": {reference.hint}" if reference.hint else ""
            yield State("missing", f"reference: give a folder of videos by --real{hint}")
        what = f"features of more real clips by {protocol}"
        if protocol in pools:
            yield _place(what, pools[protocol])
        elif protocol in reference.pool:
            yield state(reference.pool[protocol], None, what, "--pool")


def _real(description: Description, given: Given, prompts: Sequence[Prompt] | None) -> State:
    folder, reference = next(one for one in given.real if Path(one).is_dir()), description.reference
    if "{id}" in reference.videos and prompts is None:
        return State("here", f"reference: {folder}")
    try:
        found = real_files(description, given, prompts or ())
    except (OSError, ValueError) as error:
        return State("missing", f"reference: {error}")
    count = len(found) if found is not None else 0
    of = "" if reference.count in (None, count) else f", the benchmark has {reference.count:,}"
    return State("here", f"reference: {folder}: {count:,} videos{of}")


def _videos(description: Description, given: Given, prompts: Sequence[Prompt] | None) -> Iterator[State]:
    samples = description.samples if given.samples is None else given.samples
    for label, folder in (labelled(given.videos) if given.videos else {}).items():
        if prompts is None:
            yield _place(f"row {label!r}", str(folder))
            continue
        try:
            found = named(label, folder, description.layout, prompts[: given.clips], samples, description.clip)
        except (OSError, ValueError) as error:
            yield State("missing", f"row {label!r}: {error}")
        else:
            yield State("here", f"row {label!r}: {folder}: {len(found):,} videos")


def pair_needs(raw: Mapping[str, Any], name: str) -> tuple[State, ...]:
    """The files of a pair: those of the hub in its cache or to be downloaded, with their size where it is known."""
    sources = list(dict.fromkeys(source for _, source in named_parts(raw) if source.startswith("hub:")))
    if not sources:
        return (State("here", f"pair {name}"),)
    known = raw.get("files", {})
    size = total(entry for source, entry in known.items() if source in sources)
    lacking = [source for source in sources if not hub.cached(hub.parse(source))]
    if not lacking:
        return (State("here", f"pair {name}: its repositories are in the cache"),)
    return (State("download", f"pair {name}: {size}; {', '.join(lacking)}"),)
