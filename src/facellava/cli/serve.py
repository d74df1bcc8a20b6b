"""``facellava serve``: the model behind an OpenAI-compatible interface on this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from facellava.cli._common import require_readable, show_notice
from facellava.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    from facellava.server.settings import ServerSettings

KEY_VARIABLE = "FACELLAVA_API_KEY"
LICENCE = "Apache-2.0; every ingredient has its own: facellava weights list"
_MIB = 1 << 20


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; others need an API key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    model: Annotated[Path | None, typer.Option(help="Folder of a trained model; default: the shipped one.")] = None,
    api_key_file: Annotated[Path | None, typer.Option(help=f"Holds the API key (or set {KEY_VARIABLE}).")] = None,
    server_name: Annotated[list[str] | None, typer.Option(help="Host name clients may use; repeatable.")] = None,
    allow_url_host: Annotated[
        list[str] | None, typer.Option(help="Fetch pictures from https://HOST, and no other; repeatable.")
    ] = None,
    allow_origin: Annotated[list[str] | None, typer.Option(help="Web origin that may call; repeatable.")] = None,
    mode: Annotated[
        Literal["full", "movements"], typer.Option(help="movements: action units only, no free answers.")
    ] = "full",
    queue: Annotated[int, typer.Option(min=1, help="Requests that may wait.")] = 16,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds for a request, waiting included.")] = 120.0,
    grace: Annotated[float, typer.Option(min=0, help="Seconds for running requests at shutdown.")] = 30.0,
    max_body: Annotated[int, typer.Option(min=1, help="MiB of a request.")] = 64,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of an answer.")] = 1024,
    max_video_seconds: Annotated[float, typer.Option(min=1, help="Length of a video.")] = 120.0,
    cache: Annotated[int, typer.Option(min=0, help="MiB of read faces to remember in memory; 0: none.")] = 256,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all cores, at most 4.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never pull missing weights.")] = False,
) -> int:
    """Serve chat, analysis and scores over HTTP (docs/server.md)."""
    _require_extra()
    from facellava.server.settings import Bounds, ServerSettings

    settings = ServerSettings(
        host=host,
        port=port,
        api_key=_api_key(api_key_file),
        names=tuple(server_name or ()),
        origins=tuple(allow_origin or ()),
        url_hosts=tuple(allow_url_host or ()),
        mode=mode,
        queue=queue,
        seconds=timeout,
        grace=grace,
        cache=cache * _MIB,
        licence=LICENCE if model is None else "that of the folder's model",
        bounds=Bounds(body=max_body * _MIB, answer=max_tokens, video_seconds=max_video_seconds),
    ).checked()
    show_notice()
    _run(settings, model, threads, offline)
    return 0


def _require_extra() -> None:
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingExtra("serve", "the server") from error


def _api_key(file: Path | None) -> str:
    """Of the file, or of the environment; not an option, because other users can read those."""
    if file is None:
        return os.environ.get(KEY_VARIABLE, "").strip()
    try:
        key = require_readable(file).read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} holds no text: write the API key in it") from error
    if not key:
        raise UsageError(f"{file} is empty: write the API key in it")
    return key


def _run(settings: ServerSettings, model: Path | None, threads: int | None, offline: bool) -> None:
    from logging.config import dictConfig

    from facellava.analyzer import load
    from facellava.server.logs import configuration
    from facellava.server.run import Server, listen

    listener = listen(settings)
    analyzer = load(
        None if model is None else str(model), threads=threads, progress=sys.stderr.isatty(), offline=offline or None
    )
    dictConfig(configuration())
    server = Server(analyzer, settings, listener)
    print(f"facellava: serving {analyzer.name} at {server.url} (Ctrl-C stops)", file=sys.stderr, flush=True)
    server.run()
