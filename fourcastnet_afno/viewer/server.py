"""A web server for the page of one person on this machine.

It listens on the loopback address alone, and reads nothing but what was opened before. Its
addresses start with a random word, without which other users of the machine see nothing. Requests
that pages of others let a browser make are rejected by their headers: ``Host``, which a name that
leads to this machine would give away (DNS rebinding), ``Origin`` and ``Sec-Fetch-Site``.
"""

import hmac
import os
import secrets
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import BoundedSemaphore, Thread
from urllib.parse import urlsplit

from data_pipeline.errors import InputError
from fourcastnet_afno.viewer.answers import Answer, Answers, BadRequestError, NoAnswerError

_ADDRESS = "127.0.0.1"
_NAMES = ("127.0.0.1", "localhost")  # the second is what tunnels of ssh are asked for
_MOST_TOGETHER = 4  # requests that are answered at once, which bounds memory
_SECONDS = 30  # that a connection may be silent
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class ViewServer(ThreadingHTTPServer):
    """The server, see the module's header.

    Args:
        answers: Of the requests.
        port: To listen on; 0 takes a free one.

    Raises:
        InputError: If the port is taken.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, answers: Answers, port: int = 0) -> None:
        self.answers, self.word = answers, secrets.token_urlsafe(16)
        self.free = BoundedSemaphore(_MOST_TOGETHER)
        try:
            super().__init__((_ADDRESS, port), _Handler)
        except OSError as error:
            raise InputError(
                f"cannot listen on port {port} of this machine: {error.strerror}; leave --port out "
                "for a free one",
                code="bad-setting",
            ) from error

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://{_ADDRESS}:{self.server_port}/{self.word}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """Be silent about browsers that went away; other errors have been answered."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "fourcastnet-afno", ""
    timeout = _SECONDS

    def do_GET(self) -> None:
        """Answer a request of the page."""
        status, answer = self._answer()
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Security-Policy", answer.policy)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.content)))
        if status != HTTPStatus.OK:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.content)

    do_HEAD = do_GET

    def _answer(self) -> tuple[HTTPStatus, Answer]:
        address, server = urlsplit(self.path), self.server
        assert isinstance(server, ViewServer)
        if address.netloc or not self._is_of_the_page():
            return HTTPStatus.FORBIDDEN, _text("this page is for one person on this machine")
        _, word, name = [*address.path.split("/", 2), "/"][:3]
        if not hmac.compare_digest(word.encode(), server.word.encode()):
            return HTTPStatus.NOT_FOUND, _text("open the address that `view` has printed")
        try:
            with server.free:
                return HTTPStatus.OK, server.answers.answer(name, address.query)
        except NoAnswerError:
            return HTTPStatus.NOT_FOUND, _text("there is no such page")
        except BadRequestError as error:
            return HTTPStatus.BAD_REQUEST, _text(str(error))
        except Exception as error:  # damaged stores; the page shows what it is
            return HTTPStatus.INTERNAL_SERVER_ERROR, _text(f"cannot be read: {error}")

    def _is_of_the_page(self) -> bool:
        """Whether a browser sends this for the page itself, or nobody's page at all."""
        hosts = self.headers.get_all("Host") or []
        origin, site = self.headers.get("Origin"), self.headers.get("Sec-Fetch-Site", "none")
        is_here = len(hosts) == 1 and hosts[0].rpartition(":")[0] in _NAMES
        has_body = "Content-Length" in self.headers or "Transfer-Encoding" in self.headers
        is_own = origin in (None, f"http://{hosts[0]}") if is_here else False
        return is_own and site in ("none", "same-origin") and not has_body

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing: addresses hold the word."""


def _text(message: str) -> Answer:
    return Answer(message.encode(errors="backslashreplace"), "text/plain; charset=utf-8")


@contextmanager
def serving(server: ViewServer) -> Iterator[str]:
    """Serve while the block runs; yields the address of the page."""
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.url
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def show_in_browser(url: str) -> bool:
    """Open a page in the browser of a desktop, if there is one; those of terminals are left out."""
    has_screen = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    return has_screen and webbrowser.open(url)
