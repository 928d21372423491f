"""The page itself, in Gradio: the fields on the left, what they draw on the right."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from ivmix.demo import markup
from ivmix.demo.draw import Clip, Note, Step, Table
from ivmix.demo.form import FACTS, NOISES, SIZES, WINDOWS, Form, default_form, default_options, options_of
from ivmix.demo.line import Cancelled, Cancelling, Waiting
from ivmix.demo.studio import Studio
from ivmix.demo.widgets import FIELDS, about, examples, explained, vocabulary
from ivmix.pairs.description import describe
from ivmix.samplers.options import describe_samplers

SANS, MONO = ("system-ui", "sans-serif"), ("ui-monospace", "monospace")  # of the reader's machine
Changes = dict[Any, Any]  # of components


def application(studio: Studio, words: Callable[[BaseException], str]) -> FastAPI:
    """The page at /, and its clips under /clips."""
    studio.folder.mkdir(parents=True, exist_ok=True)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.mount("/clips", StaticFiles(directory=studio.folder))
    theme = gr.themes.Base(primary_hue="teal", neutral_hue="slate", font=SANS, font_mono=MONO)
    return gr.mount_gradio_app(
        app, Page(studio, words).blocks, "", server_name="127.0.0.1", footer_links=[], theme=theme, css=markup.STYLE,
        head=markup.SCRIPT, ssr_mode=False, pwa=False, mcp_server=False, enable_monitoring=False, max_file_size="1mb",
    )  # fmt: skip


class Page:
    """All components, and what each does."""

    def __init__(self, studio: Studio, words: Callable[[BaseException], str]) -> None:
        self.studio, self.words = studio, words
        form = default_form(studio.pair)
        with gr.Blocks(title="ivmix", analytics_enabled=False) as self.blocks:
            gr.HTML(
                "<h1>ivmix</h1><p>A video and an image diffusion model, sampled together from the same noise.</p>",
                elem_id="title",
            )
            with gr.Row(equal_height=False):
                with gr.Column(scale=3, min_width=300, elem_id="fields"):
                    self.facts = self._facts(form)
                    self.options = self._options(form)
                    self._pair(form)
                with gr.Column(scale=7, min_width=300, elem_id="results"):
                    self.said, self.notes = gr.HTML(elem_id="said"), gr.HTML(elem_id="notes")
                    self.clips = gr.HTML(markup.EMPTY, elem_id="clips")
                    self.table = gr.Markdown(elem_id="table", visible=False)
                    with gr.Accordion("What the columns are", open=False, visible=False) as self.legend_box:
                        self.legend = gr.Markdown()
            self._wire()

    def _facts(self, form: Form) -> dict[str, Any]:
        """The fields of `FACTS` and the buttons."""
        line = partial(gr.Textbox, max_lines=1)
        found: dict[str, Any] = {}
        words = vocabulary(form.pair)
        found["prompt"] = line(label="Prompt", placeholder="what to draw", elem_id="prompt", autofocus=True)
        self.examples = gr.Dataset(
            label="Examples", components=[gr.Textbox(visible=False)], samples=[[text] for text in examples(words)],
            type="values", visible=bool(examples(words)), elem_id="examples",
        )  # fmt: skip
        self.vocabulary = gr.Markdown(known(words), elem_id="words")
        with gr.Row():
            self.buttons = {
                "sample": gr.Button("Sample", variant="primary", elem_id="sample", min_width=90),
                "compare": gr.Button("Compare", elem_id="compare", min_width=90),
            }
            self.cancel = gr.Button("Cancel", elem_id="cancel", interactive=False, min_width=90)
        found["sampler"] = gr.Dropdown(
            list(describe_samplers()), value=form.sampler, label="Sampler", info=describe_samplers()[form.sampler],
            elem_id="sampler",
        )  # fmt: skip
        with gr.Row():
            found["seed"] = line(label="Seed", elem_id="seed", min_width=70)
            for name in (*SIZES, *WINDOWS):
                found[name] = line(label=name.replace("_", " ").capitalize(), elem_id=name, min_width=70)
            found["noise"] = gr.Dropdown(list(NOISES), label="Noise", elem_id="noise", min_width=110)
        for name, component in found.items():
            component.value = form.facts[name]
        return found

    def _options(self, form: Form) -> dict[str, Any]:
        """A field for every option of any sampler, of which those of the sampler chosen are seen."""
        found: dict[str, Any] = {}
        with gr.Accordion("Options of the sampler", open=True, elem_classes="rare"):
            with gr.Row(elem_id="options"):
                for field in FIELDS:
                    common = {"label": field.label, "elem_id": f"option-{field.name}", "min_width": 100}
                    if field.choices is None:
                        found[field.name] = gr.Textbox(max_lines=1, placeholder=field.form, **common)
                    else:
                        found[field.name] = gr.Dropdown(list(field.choices), **common)
            with gr.Accordion("What they mean", open=False):
                self.meaning = gr.Markdown(explained(form.sampler))
        for name, component in found.items():
            component.value = form.options[name]
            component.visible = name in shown(form.sampler)
        return found

    def _pair(self, form: Form) -> None:
        """Negative prompts, the choice of pairs, and records to load."""
        with gr.Accordion("Negative prompts", open=False, elem_classes="rare"):
            for name, label in (("negative_prompt", "Video model's"), ("image_negative_prompt", "Image model's")):
                self.facts[name] = gr.Textbox(form.facts[name], label=label, max_lines=1, elem_id=name)
        with gr.Accordion("Pair of models", open=False, elem_classes="rare"):
            self.facts["pair"] = gr.Dropdown(self.studio.pairs, value=form.pair, label="Pair", elem_id="pair")
            self.about = gr.Markdown(about(form.pair), elem_id="about")
        self.upload = gr.UploadButton(
            "Load a record", file_types=[".json"], size="sm", elem_id="record", elem_classes="rare"
        )

    def _wire(self) -> None:
        """Runs are not queued by Gradio but in the studio's line, where whoever waits is told so."""
        hidden: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        fields = [*(self.facts[name] for name in FACTS), *self.options.values()]
        seen = [self.said, self.notes, self.clips, self.table, self.legend, self.legend_box]
        buttons = [*self.buttons.values(), self.cancel]
        for name, button in self.buttons.items():
            button.click(self._drawing(name), fields, [*seen, *buttons], concurrency_limit=None, **hidden)
        filled = [*fields, self.meaning, self.about, self.vocabulary, self.examples, self.said, self.notes]
        self.cancel.click(self._cancel, None, None, queue=False, **hidden)
        self.examples.click(lambda row: row[0], self.examples, self.facts["prompt"], queue=False, **hidden)
        self.facts["sampler"].input(self._choose_sampler, fields, filled, queue=False, **hidden)
        self.facts["pair"].input(self._choose_pair, fields, filled, queue=False, **hidden)
        self.upload.upload(self._load, self.upload, filled, queue=False, **hidden)
        self.blocks.unload(self._leave)

    def _form(self, values: tuple[Any, ...]) -> Form:
        texts, n = [str(value or "") for value in values], len(FACTS)  # None of a choice that is not made
        facts, options = zip(FACTS, texts[:n], strict=True), zip(self.options, texts[n:], strict=True)
        return Form(dict(facts), dict(options))

    # What is done

    def _drawing(self, button: str) -> Callable[..., Iterator[Changes]]:
        """What a click on a button does: Gradio finds by its annotation which argument is the request."""

        def draw(request: gr.Request, *values: Any) -> Iterator[Changes]:
            yield from self._draw(button, str(request.session_hash), self._form(values))

        return draw

    def _draw(self, button: str, owner: str, form: Form) -> Iterator[Changes]:
        """A run as it is seen: nothing is left of one that ends badly but the line that says why."""
        clips, texts = list[Clip](), list[str]()
        yield self._busy(True) | {
            self.said: markup.notice("Beginning."), self.notes: "", self.clips: markup.EMPTY,
            self.table: gr.update(visible=False), self.legend_box: gr.update(visible=False),
        }  # fmt: skip
        try:
            for event in self.studio.run(owner, button, form):
                match event:
                    case Waiting() | Cancelling() | Step():
                        yield {self.said: markup.said(event)}
                    case Note(text):
                        texts.append(text)
                        yield {self.notes: markup.notes(texts)}
                    case Clip():
                        clips.append(event)
                        yield {self.clips: markup.gallery(clips, self._address, button == "sample")}
                    case Table(text, legend):
                        yield {self.table: gr.update(value=text, visible=True), self.legend: legend,
                               self.legend_box: gr.update(visible=True)}  # fmt: skip
            yield self._busy(False) | {self.said: ""}
        except Cancelled:
            yield self._busy(False) | {self.said: markup.notice("Cancelled.")}
        except Exception as error:
            yield self._busy(False) | {self.said: markup.notice(self.words(error), wrong=True), self.notes: ""}

    def _busy(self, busy: bool) -> Changes:
        others = {button: gr.update(interactive=not busy) for button in self.buttons.values()}
        return others | {self.cancel: gr.update(interactive=busy)}

    def _cancel(self, request: gr.Request) -> None:
        self.studio.line.cancel(str(request.session_hash))

    def _leave(self, request: gr.Request) -> None:
        self.studio.leave(str(request.session_hash))

    def _address(self, path: Path) -> str:
        return f"/clips/{path.relative_to(self.studio.folder).as_posix()}"

    # What fills in the fields

    def _choose_sampler(self, *values: Any) -> Changes:
        form = self._form(values)
        raw, _, _ = describe(form.pair)
        return self._filled(Form(form.facts, default_options(raw["defaults"], form.sampler)))

    def _choose_pair(self, *values: Any) -> Changes:
        before = self._form(values)
        return self._filled(default_form(before.pair, before.prompt, before.facts["seed"]))

    def _load(self, path: str) -> Changes:
        try:
            form, texts = self.studio.recall(Path(path))
        except Exception as error:
            return {self.said: markup.notice(self.words(error).replace(path, Path(path).name), wrong=True)}
        return self._filled(form) | {self.notes: markup.notes(texts)}

    def _filled(self, form: Form) -> Changes:
        words, seen = vocabulary(form.pair), shown(form.sampler)
        changes = {self.facts[name]: gr.update(value=form.facts[name]) for name in FACTS}
        changes[self.facts["sampler"]] = gr.update(value=form.sampler, info=describe_samplers()[form.sampler])
        changes |= {
            component: gr.update(value=form.options[name], visible=name in seen)
            for name, component in self.options.items()
        }
        return changes | {
            self.meaning: explained(form.sampler), self.about: about(form.pair), self.vocabulary: known(words),
            self.examples: gr.update(samples=[[text] for text in examples(words)], visible=bool(examples(words))),
            self.said: "", self.notes: "",
        }  # fmt: skip


def shown(sampler: str) -> set[str]:
    """The options of a sampler, by name."""
    return {option.name for option in options_of(sampler)}


def known(words: list[str] | None) -> str:
    """What a closed vocabulary holds, in a line."""
    return f"Words it knows: {', '.join(words)}." if words is not None else ""
