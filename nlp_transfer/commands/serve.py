"""The command ``serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Model
from .plain import plain


@plain()
def serve_command(
    model: Model,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 is every one of this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File with the token that clients must send.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds until a request is given up.")] = 30.0,
    max_texts: Annotated[int, typer.Option(min=1, help="Most texts in a request.")] = 256,
    max_characters: Annotated[int, typer.Option(min=1, help="Longest text.")] = 20_000,
    max_body: Annotated[int, typer.Option(min=1024, help="Largest request, in bytes.")] = 2**20,
    queue_tokens: Annotated[int, typer.Option(min=1, help="About as many tokens may wait; more is refused.")] = 2**17,
) -> None:
    """Serve a model over HTTP, with a page to try it.

    The token may also stand in the environment variable NLP_TRANSFER_TOKEN. Ctrl-C stops the service, after what it has
    accepted is answered.
    """
    from ..reporter import ConsoleReporter
    from ..serving.server import serve
    from ..serving.settings import ServiceLimits, read_token

    limits = ServiceLimits(
        timeout=timeout,
        max_texts=max_texts,
        max_characters=max_characters,
        max_body=max_body,
        queue_tokens=queue_tokens,
    )
    token = read_token(token_file)
    serve(model, host=host, port=port, token=token, limits=limits, reporter=ConsoleReporter())
