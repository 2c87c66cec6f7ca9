"""Start a service: find the port, load the model, listen, and answer what was accepted before it stops."""

from __future__ import annotations

import importlib.util
import ipaddress
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..fetching import without_user
from ..reporter import Reporter
from .settings import ServiceLimits
from .worker import in_passing

if TYPE_CHECKING:
    from .app import Service

NEEDED = ("fastapi", "uvicorn", "prometheus_client", "captum")


def serve(
    model: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    limits: ServiceLimits | None = None,
    reporter: Reporter | None = None,
) -> None:
    """Serve a model over HTTP until the process is told to stop (SIGINT, SIGTERM); accepted requests are answered.

    Args:
        model: Anything that :func:`nlp_transfer.load_predictor` takes.
        host: Address to listen on; by default only this machine can reach it.
        port: Port; 0 takes a free one.
        token: Token that clients must send (``Authorization: Bearer TOKEN``); see
            :func:`~nlp_transfer.serving.settings.read_token`.
        limits: Limits and times.
        reporter: Where the address is told; silent by default.

    Raises:
        UserError: The extra ``serve`` is missing, the address cannot be had, or the model cannot be loaded.
    """
    check_extra()
    import uvicorn

    from .app import build_app

    limits = ServiceLimits() if limits is None else limits
    reporter = Reporter() if reporter is None else reporter
    listener = bind(host, port)
    with listener:
        app = build_app(in_passing(prepare, model), limits, token)
        config = uvicorn.Config(
            app,
            # What is under way may take this long, and a batch before it as long again.
            timeout_graceful_shutdown=round(2 * limits.timeout) + 1,
            lifespan="on",
            ws="none",
            server_header=False,
            log_config=_logging(),
        )
        address = listener.getsockname()
        shown = f"[{address[0]}]" if ":" in address[0] else address[0]
        reporter.say(f"Serving {without_user(str(model))} on http://{shown}:{address[1]} (Ctrl+C stops it)")
        if token is None and not is_loopback(address[0]):
            reporter.warn(f"others can reach {address[0]}, and no token is set: anybody may ask.")
        uvicorn.Server(config).run(sockets=[listener])


def check_extra() -> None:
    """Refuse to begin without what serving needs.

    Raises:
        UserError: Something is not installed.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"serving needs {', '.join(missing)}: pip install 'nlp-transfer[serve]'")


def prepare(model: str | Path) -> Service:
    """Load a model, and ask it once: what comes back says what kind of answers it gives."""
    from ..inference import known_labels, load_predictor
    from ..predictor import with_cast_weights
    from .app import Service
    from .explaining import Explainer, explainable
    from .schema import kind_of
    from .twin import Lazy, twin_folder

    predictor: Any = load_predictor(model)
    [answer] = predictor(["Hello."])
    twin = twin_folder(Path(model).expanduser())
    return Service(
        name=Path(without_user(str(model))).name or str(model),
        predict=with_cast_weights(predictor),
        kind=kind_of(answer),
        labels=known_labels(predictor.task),
        twin=None if twin is None else Lazy(lambda: load_predictor(twin)),
        explain=Explainer(predictor) if explainable(predictor) else None,
    )


def bind(host: str, port: int) -> socket.socket:
    """Take an address before anything is loaded.

    Raises:
        UserError: It is taken, not this machine's, or not allowed.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:  # UnicodeError: of a name that no address can have
        raise UserError(f"host '{host}' is not known: {getattr(error, 'strerror', None) or error}.") from None
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise UserError(f"cannot listen on {host}:{port}: {error.strerror}. Give another --port or --host.") from None
    return listener


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach an address."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _logging() -> dict[str, Any]:
    """Return uvicorn's logging, on standard error; paths and statuses are logged, never bodies or headers."""
    from copy import deepcopy

    from uvicorn.config import LOGGING_CONFIG

    config: dict[str, Any] = deepcopy(LOGGING_CONFIG)
    config["handlers"]["access"]["stream"] = "ext://sys.stderr"
    return config
