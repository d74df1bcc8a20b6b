"""A page to try the model in, for this machine only: ``facellava.demo()`` or ``python -m facellava.gradio_app``.

Needs the extra ``gradio``. No public link, no telemetry; what is uploaded lies in Gradio's temporary folder for ten
minutes at most. The page of ``facellava serve`` keeps nothing; this one is for notebooks and for those who know Gradio.
"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from facellava.analyzer import Analyzer, load
from facellava.errors import FacellavaError, MissingExtra
from facellava.notice import TEXT

if TYPE_CHECKING:
    # not among the tools for working on this: it holds Pillow back
    import gradio  # pyright: ignore[reportMissingImports]

__all__ = ["build", "demo"]

HOST = "127.0.0.1"
KEPT_SECONDS = 600
LARGEST = "64mb"


def build(analyzer: Analyzer) -> gradio.Blocks:
    """The page around a loaded model, not yet started.

    Raises:
        MissingExtra: Gradio is not installed.
    """
    gr = _gradio()

    def analyze(data: bytes | None, movements: bool) -> tuple[str, dict[str, Any]]:
        result = _told(gr, lambda: analyzer.analyze(_given(gr, data), mode="movements" if movements else "full"))
        return result.to_html(picture=True), result.to_dict()

    def ask(data: bytes | None, question: str) -> str:
        return _told(gr, lambda: str(analyzer.ask(_given(gr, data), question)))

    with gr.Blocks(title="facellava", analytics_enabled=False, delete_cache=(60, KEPT_SECONDS)) as page:
        gr.Markdown("# facellava\nWhat a face displays, on this machine.")
        gr.Textbox(TEXT, label="Read this first", lines=6, interactive=False)
        file = gr.File(label="A picture or a short video", type="binary")
        with gr.Row():
            movements = gr.Checkbox(label="Movements only, no claim about expression")
            button = gr.Button("Describe every face", variant="primary")
        shown, typed = gr.HTML(), gr.JSON(label="Typed result")
        question = gr.Textbox(label="A question about the largest face")
        answer = gr.Textbox(label="Answer", interactive=False)
        button.click(analyze, [file, movements], [shown, typed], api_name="analyze")
        question.submit(ask, [file, question], answer, api_name="ask")
    return page


def demo(analyzer: Analyzer, *, port: int | None = None, block: bool = True, browser: bool = False) -> str:
    """Start the page and give its address.

    Args:
        port: None takes a free one. block: wait until it is stopped. browser: open it.

    Raises:
        MissingExtra: Gradio is not installed.
    """
    gr, page = _gradio(), build(analyzer)
    plain = gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"])  # others are fetched by the page
    _, url, _ = page.launch(
        server_name=HOST,
        server_port=port,
        share=False,
        inbrowser=browser,
        prevent_thread_lock=not block,
        max_file_size=LARGEST,
        footer_links=[],
        enable_monitoring=False,
        run_history=False,
        ssr_mode=False,
        theme=plain,
    )
    return url


def _gradio() -> Any:
    # before it is imported: it reads them then
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import gradio  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingExtra("gradio", "the demo page") from error
    return gradio


def _given(gr: Any, data: bytes | None) -> bytes:
    if data is None:
        raise gr.Error("choose a picture or a video first", print_exception=False)
    return data


def _told(gr: Any, work: Any) -> Any:
    """What the work gives; what it refuses is shown in the page."""
    try:
        return work()
    except FacellavaError as error:
        raise gr.Error(str(error), print_exception=False) from error


def main() -> None:
    """The page with the default model."""
    parser = argparse.ArgumentParser(prog="python -m facellava.gradio_app", description=__doc__)
    parser.add_argument("--port", type=int, help="a free one unless given")
    given = parser.parse_args()
    demo(load(), port=given.port)


if __name__ == "__main__":
    main()
