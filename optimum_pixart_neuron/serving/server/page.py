"""The page at /: a form on the server's own API, with progress while a picture is denoised."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import gradio as gr
import httpx
from fastapi import FastAPI
from gradio.processing_utils import save_bytes_to_cache

from ..exported import Exported
from ..picture import LARGEST_SEED
from .api import GENERATE
from .asked import size_name
from .options import ServeOptions

TITLE = "PixArt on Neuron"
_KEPT = 24
"""Pictures that the gallery of one visitor shows."""
_AGE_S = 3600
"""After which files of pictures are deleted."""
_CSS = """
.progress { font-variant-numeric: tabular-nums; min-height: 1.5em; }
.progress progress { width: 100%; height: 0.5em; accent-color: #1f6feb; }
.progress .fault { color: #b42318; }
#gallery .caption, #gallery caption { white-space: normal; overflow-wrap: anywhere; max-width: 100%; }
footer { display: none !important; }
"""
_EVERYWHERE = ("0.0.0.0", "::")

Shown = list[tuple[str, str]]
"""Files with their captions, newest first."""


def add_page(app: FastAPI, exports: Sequence[Exported], options: ServeOptions, *, asks_for_key: bool) -> FastAPI:
    """Put the page at / of the server's application.

    Args:
        exports: what the page offers, the first chosen.
        options: of the server; the page asks it at its own address.
        asks_for_key: whether the page has a field for the key that requests need.
    """
    blocks = _Page(exports, options).blocks(asks_for_key)
    theme = gr.themes.Default(
        font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"], primary_hue="blue"
    )
    return gr.mount_gradio_app(app, blocks, "/", theme=theme, css=_CSS, show_error=False, footer_links=[])


class _Page:
    def __init__(self, exports: Sequence[Exported], options: ServeOptions) -> None:
        self._exports = {exported.name: exported for exported in exports}
        self._first = exports[0]
        self._options = options
        host = "127.0.0.1" if options.host in _EVERYWHERE else options.host
        self._cache = ""
        self._url = f"http://{f'[{host}]' if ':' in host else host}:{options.port}{GENERATE}"

    def blocks(self, asks_for_key: bool) -> gr.Blocks:
        sizes = _sizes(self._first)
        with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(_AGE_S, _AGE_S)) as blocks:
            gr.Markdown(f"# {TITLE}")
            with gr.Row():
                with gr.Column(scale=2, min_width=320):
                    prompt = gr.Textbox(label="Prompt", lines=3, autofocus=True, elem_id="prompt")
                    negative = gr.Textbox(label="Negative prompt", lines=1, elem_id="negative_prompt")
                    model = gr.Dropdown(
                        list(self._exports), value=self._first.name, label="Model", visible=len(self._exports) > 1
                    )
                    size = gr.Dropdown(sizes, value=sizes[0], label="Size", elem_id="size")
                    with gr.Row():
                        steps = gr.Slider(1, self._options.max_steps, self._steps(self._first), step=1, label="Steps")
                        scale = gr.Slider(0, 20, self._first.guidance_scale, step=0.1, label="Guidance scale")
                    seed = gr.Number(
                        label="Seed", info="Empty for another picture each time", precision=0, value=None, minimum=0,
                        elem_id="seed",
                    )  # fmt: skip
                    key = gr.Textbox(label="API key", type="password", visible=asks_for_key, elem_id="key")
                    with gr.Row():
                        draw = gr.Button("Generate", variant="primary", elem_id="generate")
                        stop = gr.Button("Stop", elem_id="stop")
                    progress = gr.HTML(elem_id="progress", elem_classes="progress")
                with gr.Column(scale=3, min_width=320):
                    gallery = gr.Gallery(
                        label="Pictures", elem_id="gallery", columns=2, object_fit="contain", format="png",
                        interactive=False, buttons=["download", "fullscreen"], height="70vh", preview=True,
                    )  # fmt: skip
            self._cache = gallery.GRADIO_CACHE
            shown = gr.State([])
            quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
            inputs = [prompt, negative, model, size, steps, scale, seed, key, shown]
            drawing = gr.on(
                [draw.click, prompt.submit], self._draw, inputs, [progress, gallery, shown],
                concurrency_limit=None, **quiet,
            )  # fmt: skip
            stop.click(lambda: "", None, progress, cancels=[drawing], **quiet)
            model.change(self._pick, model, [size, steps, scale], **quiet)
        return blocks

    def _pick(self, model: str) -> tuple[Any, int, float]:
        exported = self._exports[model]
        sizes = gr.Dropdown(_sizes(exported), value=_sizes(exported)[0])
        return sizes, self._steps(exported), exported.guidance_scale

    def _steps(self, exported: Exported) -> int:
        return min(self._options.default_steps or exported.steps, self._options.max_steps)

    async def _draw(
        self,
        prompt: str,
        negative: str,
        model: str,
        size: str,
        steps: float,
        scale: float,
        seed: float | None,
        key: str,
        shown: Shown,
    ) -> AsyncIterator[tuple[str, Any, Shown]]:
        body = {
            "prompt": prompt,
            "negative_prompt": negative,
            "model": model,
            "size": size,
            "num_inference_steps": int(steps),
            "guidance_scale": float(scale),
            "stream": True,
        }
        if seed is not None:
            body["seed"] = min(int(seed), LARGEST_SEED)
        yield "waiting …", gr.skip(), shown
        try:
            async for event in _events(self._url, body, key):
                if event.get("type") == "image_generation.step":
                    yield _bar(event["step"], event["of"]), gr.skip(), shown
                elif "b64_json" in event:
                    shown = [self._file(event, body), *shown][:_KEPT]
                    yield "", gr.Gallery(shown, selected_index=0), shown
                elif "error" in event:
                    yield _fault(event["error"]["message"]), gr.skip(), shown
        except httpx.HTTPError as error:
            yield _fault(f"the server does not answer: {type(error).__name__}"), gr.skip(), shown

    def _file(self, event: dict[str, Any], body: dict[str, Any]) -> tuple[str, str]:
        """The file of a picture in Gradio's cache, and what it was made with."""
        content = base64.b64decode(event["b64_json"])
        path = save_bytes_to_cache(content, f"pixart-{event['seed']}.png", self._cache)
        settings = f"{event['size']}, {body['num_inference_steps']} steps, guidance {body['guidance_scale']:g}"
        negative = f" | without: {body['negative_prompt']}" if body["negative_prompt"] else ""
        return path, f"{body['prompt']}{negative} | {settings}, seed {event['seed']}"


async def _events(url: str, body: dict[str, Any], key: str) -> AsyncIterator[dict[str, Any]]:
    """What the server says, event by event; a refusal is one."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    timeout = httpx.Timeout(10, read=None)  # the server itself bounds how long a request takes
    async with httpx.AsyncClient(timeout=timeout, trust_env=False) as client:
        async with client.stream("POST", url, json=body, headers=headers) as answer:
            if answer.status_code != 200:
                yield json.loads(await answer.aread())
                return
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    yield json.loads(line.removeprefix("data: "))


def _sizes(exported: Exported) -> list[str]:
    return [size_name(size) for size in exported.sizes]


def _bar(step: int, of: int) -> str:
    return f'<progress value="{step}" max="{of}"></progress> step {step} of {of}'


def _fault(message: str) -> str:
    return f'<span class="fault" role="alert">{html.escape(message)}</span>'
