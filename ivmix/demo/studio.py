"""What all open pages share: the model, the line before it, and a folder for what is drawn."""

import hashlib
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from ivmix._version import __version__
from ivmix.demo.draw import Note, compare, sample
from ivmix.demo.form import Form, recalled_form
from ivmix.demo.line import Line, Tell
from ivmix.devices import dtype_name
from ivmix.generation.text_to_video import TextToVideo
from ivmix.pairs.description import EMBEDDED, PUBLIC
from ivmix.typed import short

BUTTONS = {"sample": sample, "compare": compare}


class Studio:
    """One model at a time, that of the pair last drawn with: `load` gives it by the pair's name.

    Runs of all pages go through one line; clips lie in `folder`, in one of their own for every owner and run.
    """

    def __init__(self, load: Callable[[str], TextToVideo], pair: str, folder: Path) -> None:
        self._load, self.folder, self.line = load, folder, Line()
        model = load(pair)
        began, self.pair = model.pair, model.pair.source
        self._loaded: tuple[str, TextToVideo] | None = (self.pair, model)
        self.swaps = began.swaps.to_dict()
        self.here = {"ivmix": __version__, "device": str(began.device), "dtype": dtype_name(began.dtype),
                     "compile": began.compile}  # fmt: skip

    @property
    def pairs(self) -> list[str]:
        """Those that can be chosen: by name, and the one it began with, which alone may have other models put in."""
        return [self.pair] if self.swaps else list(dict.fromkeys([*EMBEDDED, *PUBLIC, self.pair]))

    def run(self, owner: str, button: str, form: Form) -> Iterator[object]:
        """What a button tells, see `ivmix.demo.draw`, and of the line before it, see `Line.run`."""
        folder = self.place(owner) / secrets.token_hex(4)

        def work(tell: Tell) -> None:
            model = self._model(form.pair, tell)
            folder.mkdir(parents=True)
            BUTTONS[button](model, form, folder, tell)

        return self.line.run(owner, work)

    def recall(self, path: Path) -> tuple[Form, list[str]]:
        """The form of a record, and what of it is not as here. ValueError for one that cannot be drawn here."""
        form, record = recalled_form(path)
        if form.pair not in self.pairs:
            raise ValueError(f"the record is of pair {short(form.pair)}: start `ivmix demo --pair` with it")
        if record.swaps != self.swaps:
            raise ValueError("the record is of other models put in the pair's place: start `ivmix demo` with them")
        was = [f"{name} {getattr(record, name)}" for name, here in self.here.items() if getattr(record, name) != here]
        was += [f"{record.batch_sizes[0]} clips at a time"] if record.batch_sizes[0] > 1 else []
        return form, [f"it was drawn with {', '.join(was)}: the clip may differ here"] if was else []

    def leave(self, owner: str) -> None:
        """Cancels the runs of a page that was closed, and removes its clips."""
        self.line.cancel(owner)
        shutil.rmtree(self.place(owner), ignore_errors=True)

    def place(self, owner: str) -> Path:
        """Where an owner's clips lie: a folder of our own naming, as who calls the server may be called "..", too."""
        return self.folder / hashlib.sha256(owner.encode()).hexdigest()[:16]

    def _model(self, pair: str, tell: Tell) -> TextToVideo:
        if self._loaded is None or self._loaded[0] != pair:
            tell(Note(f"loading {pair}"))
            self._loaded = None  # before the other, so that memory holds one
            self._loaded = (pair, self._load(pair))
        return self._loaded[1]
