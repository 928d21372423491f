"""What is told of a run, as HTML; every text of a person or a file is escaped."""

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from ivmix.demo.draw import Clip, Note, Step
from ivmix.demo.line import Cancelling, Waiting
from ivmix.samplers.options import describe_samplers

STYLE = """
.gradio-container { width: 100%; max-width: 1400px !important; margin: 0 auto; }
#title h1 { margin: 0; font-size: 1.5rem; }
#title p { margin: 0; opacity: .75; }
#examples button { font-size: .8rem; padding: .2rem .45rem; }
#words { opacity: .75; font-size: .85rem; }
#said:not(:has(.said)), #notes:not(:has(.said)) { display: none; }
:is(#said, #notes, #clips, #title) :is(.html-container, div.prose) { padding: 0 !important; }
.said { padding: .5rem .75rem; border-radius: .4rem; background: var(--background-fill-secondary);
        white-space: pre-line; }
.said + .said { margin-top: .5rem; }
.said.wrong { background: var(--error-background-fill); color: var(--error-text-color); overflow-wrap: anywhere;
              border-left: 3px solid var(--error-border-color, #dc2626); }
.said progress { display: block; width: 100%; height: .4rem; margin-top: .4rem; appearance: none; border: 0;
                 border-radius: .2rem; overflow: hidden; background: var(--border-color-primary); }
.said progress::-webkit-progress-bar { background: var(--border-color-primary); }
.said progress::-webkit-progress-value { background: var(--primary-600); }
.said progress::-moz-progress-bar { background: var(--primary-600); }
#options > .form { display: grid; grid-template-columns: repeat(auto-fill, minmax(130px, 1fr));
                   background: var(--block-background-fill); }
.clips { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 1rem; }
.clips.one { grid-template-columns: minmax(0, 480px); }
.clips figure { margin: 0; }
.clips video { display: block; width: 100%; border-radius: .4rem; image-rendering: pixelated; }
.clips figcaption { padding-top: .4rem; line-height: 1.4; }
.clips figcaption span { display: block; opacity: .75; font-size: .85rem; }
.clips figcaption a { margin: 0; padding: 0; }
#empty { display: grid; place-items: center; min-height: 320px; opacity: .6; text-align: center; border-radius: .4rem;
         align-content: center; padding: 1rem; border: 1px dashed var(--border-color-primary); }
#empty p { margin: .25rem 0; }
#table { overflow-x: auto; }
#table :is(table, thead, tbody, tr) { border: 0 !important; }
#table table { font-size: .75rem; line-height: 1.3; font-variant-numeric: tabular-nums; width: 100%; }
#table :is(th, td) { padding: .3rem .25rem; word-break: normal; overflow-wrap: normal; text-align: right;
                     vertical-align: bottom; border: 0; box-shadow: 0 1px var(--border-color-primary); }
#table td { white-space: nowrap; }
#table :is(th, td):first-child { text-align: left; }
@media (max-width: 640px) {  /* clips below the buttons, before all fields that few change */
  #fields, #results { display: contents; }
  #results > * { order: 1; }
  #fields > .rare { order: 2; }
  #empty { min-height: 120px; }
}
"""
# Clips side by side show the same moment.
SCRIPT = """<script>
setInterval(() => {
  const [first, ...others] = [...document.querySelectorAll(".clips video")].filter((one) => !one.paused);
  for (const one of others)
    if (Math.abs(one.currentTime - first.currentTime) > 0.1) one.currentTime = first.currentTime;
}, 500);
</script>"""
EMPTY = """<div id='empty'><p>Clips appear here, and play.</p>
<p>Compare draws from the same noise: the video model alone, the image model alone, IV-Mixed and the ODE it converges
to, at the pair's defaults, and the sampler chosen as it is set.</p></div>"""


def said(event: Waiting | Cancelling | Step | Note) -> str:
    """Where a run is, in a line."""
    match event:
        case Waiting(ahead):
            return notice(f"Waiting in line: {ahead} run{'s' * (ahead != 1)} before yours." if ahead else "Beginning.")
        case Cancelling():
            return notice("Cancelling: the step it is at ends first.")
        case Step(sampler, step, total, number, of):
            which = f", {number} of {of} samplers" if of > 1 else ""
            done = (number - 1 + step / total) / of
            return notice(f"{sampler}{which}: step {step} of {total}", done)
        case Note(text):
            return notice(text)


def notice(text: str, done: float | None = None, wrong: bool = False) -> str:
    """A line, with a bar of what is done of a run, or as an alert of what is wrong. Nothing of no text."""
    if not text:
        return ""
    bar = "" if done is None else f"<progress value='{done:.4f}' max='1'></progress>"
    kind = "class='said wrong' role='alert'" if wrong else "class='said' role='status'"
    return f"<div {kind}>{escape(text)}{bar}</div>"


def notes(texts: Sequence[str]) -> str:
    return "".join(map(notice, texts))


def gallery(clips: Sequence[Clip], address: Callable[[Path], str], alone: bool) -> str:
    """Clips side by side, all begun together, from the addresses that files are served at; one alone is larger."""
    figures = "".join(figure(clip, address(clip.video), address(clip.record)) for clip in clips)
    return f"<div class='clips{' one' if alone else ''}'>{figures}</div>"


def figure(clip: Clip, video: str, record: str) -> str:
    """One clip that plays, over and over, with what it cost and its files."""
    name = escape(clip.sampler)
    cost = " + ".join(f"{count} {model}" for model, count in sorted(clip.evaluations.items()))
    return (
        f"<figure data-sampler='{name}'><video src='{video}' autoplay loop muted playsinline controls></video>"
        f"<figcaption><b>{name}</b> <span>{escape(describe_samplers()[clip.sampler])}</span>"
        f"<span>{escape(cost)} evaluations, {clip.seconds:.1f}&nbsp;s</span>"
        f"<span><a href='{video}' download>clip</a> · <a href='{record}' download>record</a></span>"
        "</figcaption></figure>"
    )
