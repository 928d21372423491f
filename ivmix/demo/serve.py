"""The page's server: bound to 127.0.0.1, asking nothing of any other machine, and gone without a trace when it ends."""

import errno
import logging
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ivmix.demo.studio import Studio

if TYPE_CHECKING:
    from ivmix.generation.text_to_video import TextToVideo

HOST, PORT, TRIED = "127.0.0.1", 7860, 100
# A page that may ask nobody but its own server, whatever is in it.
POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'none'; base-uri 'self'; "
    "form-action 'self'"
)
QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}  # read when gradio is imported


def serve(
    load: Callable[[str], "TextToVideo"], pair: str, port: int | None, words: Callable[[BaseException], str],
    say: Callable[[str], None],
) -> None:  # fmt: skip
    """Serves the page until something is raised in this thread, such as by Ctrl-C.

    `load` gives a model by its pair's name, `words` what a person is told of an error. ValueError for a port or a pair
    that cannot be.
    """
    with listening(port) as door, tempfile.TemporaryDirectory(prefix="ivmix-demo-") as folder:
        studio = Studio(load, pair, Path(folder, "clips"))
        os.environ |= QUIET | {"GRADIO_TEMP_DIR": str(Path(folder, "uploads"))}
        from ivmix.demo.page import application

        try:
            with running(guarded(application(studio, words)), door) as server:
                say(f"http://{HOST}:{door.getsockname()[1]}  (Ctrl-C ends it)")
                server.join()
        finally:
            studio.line.close()


def listening(port: int | None) -> socket.socket:
    """A socket at `port`, or at PORT or the next free one. ValueError for a port that cannot be had."""
    if port is not None and not 0 <= port <= 65535:
        raise ValueError(f"--port {port}: expected a number from 0, any free one, to 65535")
    for tried in range(PORT, PORT + TRIED) if port is None else [port]:
        door = socket.socket()
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind((HOST, tried))
            door.listen()
            return door
        except OSError as error:
            door.close()
            if error.errno != errno.EADDRINUSE or port is not None:
                raise ValueError(f"--port {tried}: {error.strerror}; choose another") from None
    raise ValueError(f"ports {PORT} to {PORT + TRIED - 1} are all in use: choose another by --port")


@contextmanager
def running(app: Any, door: socket.socket) -> Iterator[threading.Thread]:
    """An ASGI application served at `door` by a thread, until the block ends."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        server.should_exit = server.force_exit = True  # without waiting for the pages that are open
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # which has a traceback for each of them
        thread.join(timeout=10)


def guarded(app: Any) -> Any:
    """The application, with POLICY in every answer, and none to who calls it by the name of another machine, or from
    the page of another site."""
    from starlette.datastructures import Headers
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.responses import PlainTextResponse

    here = TrustedHostMiddleware(app, [HOST, "localhost"])
    refused = PlainTextResponse("Invalid origin header", status_code=403)

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        async def with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY.encode())]
            await send(message)

        headers = Headers(raw=scope.get("headers", []))  # none of the server's own beginning and end
        own = headers.get("origin") in (None, f"http://{headers.get('host')}")
        await (here if own else refused)(scope, receive, with_policy)

    return answer
