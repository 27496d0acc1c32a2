"""Web servers on this machine, among them one with the addresses of a model hub."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """Files by path, and what was asked of them.

    Args:
        files: Content by path, without the leading slash.
        redirects: Addresses by path.
        cut: Bytes of each answer that get lost.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    cut: int = 0
    url: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)  # path and authorization

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


def hub_like(content: Site, name: str, files: dict[str, bytes], revision: str = "main") -> None:
    """Publish files as a hub does: ``NAME/resolve/REVISION/FILE``."""
    content.files |= {f"{name}/resolve/{revision}/{file}": text for file, text in files.items()}


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    """Serve a site while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def _answer(self, *, with_body: bool) -> None:
            path = self.path.lstrip("/").partition("?")[0]
            site.asked.append((path, self.headers.get("Authorization", "")))
            if path in site.redirects:
                self.send_response(302)
                self.send_header("Location", site.redirects[path])
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = site.files.get(path)
            self.send_response(404 if content is None else 200)
            content = content or b""
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{hash(content)}"')
            self.end_headers()
            if with_body:
                self.wfile.write(content[: len(content) - site.cut])
            if site.cut:
                self.close_connection = True

        def log_message(self, *arguments: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
