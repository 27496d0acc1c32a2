"""A web server that sends parts of files, as buckets do, and counts what travels."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Bucket:
    """Files by path, and what happens to requests.

    Args:
        files: Content by path, with a leading slash.
        url: Web address.
        sent: Bytes of contents that travelled, by path.
        requests: Paths that were asked for.
        failures: Answers with this status that come first.
        cuts: Transfers that end after half of their bytes, which come first.
        ranges: Whether parts of files are sent.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    url: str = ""
    sent: dict[str, int] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    cuts: int = 0
    ranges: bool = True


@contextmanager
def serving_ranges() -> Iterator[Bucket]:
    """A bucket at a web address of this machine."""
    bucket, lock = Bucket(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with lock:
                bucket.requests.append(self.path)
                status = bucket.failures.pop(0) if bucket.failures else 0
                cut = not status and bucket.cuts > 0
                bucket.cuts -= cut
            content = bucket.files.get(self.path)
            if status or content is None:
                self.send_error(status or 404)
                return
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if asked and bucket.ranges:
                first, last = int(asked[1]), int(asked[2] or len(content) - 1)
                if first >= len(content):
                    self.send_error(416)
                    return
                content = content[first : last + 1]
                self.send_response(206)
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            content = content[: len(content) // 2] if cut else content
            with lock:
                bucket.sent[self.path] = bucket.sent.get(self.path, 0) + len(content)
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    bucket.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield bucket
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
