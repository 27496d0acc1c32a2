"""The server: for one person on this machine, and for nobody else's page."""

import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

from fourcastnet_afno.viewer.answers import Answers
from fourcastnet_afno.viewer.opening import Viewed
from fourcastnet_afno.viewer.server import ViewServer, serving
from tests.builders.errors import rejects

FIELD = "field?channel=0&init=1&view=0&lead=2"


@pytest.fixture(scope="module")
def server(viewed: Viewed) -> Iterator[ViewServer]:
    server = ViewServer(Answers(viewed))
    with serving(server):
        yield server


def ask(
    server: ViewServer, request: str, method: str = "GET", **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    """Status, content and headers of an answer to a request for the page."""
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=300)
    path = request if request.startswith("/") else urlsplit(server.url).path + request
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, headers=names)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, content, dict(response.headers)


def test_it_answers_the_page(server: ViewServer) -> None:
    status, content, headers = ask(server, FIELD)
    assert status == 200
    assert content == server.answers.answer(*FIELD.split("?")).content
    assert headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in headers
    status, page, headers = ask(server, "", Host=f"localhost:{server.server_port}")
    assert status == 200
    assert headers["Content-Type"].startswith("text/html")
    assert b"<title>ours.zarr</title>" in page
    assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_it_listens_on_this_machine_alone(server: ViewServer) -> None:
    assert server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example:80"},
        {"Host": "evil.example@127.0.0.1"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Content_Length": "5"},
    ],
    ids=str,
)
def test_pages_of_others_see_nothing(server: ViewServer, headers: dict[str, str]) -> None:
    status, content, _ = ask(server, "axes", **headers)
    assert status == 403
    assert len(content) < 200


@pytest.mark.parametrize(
    "path",
    ["/", "/axes", "/WORD/axes", "/../axes", "/etc/passwd", "/%2e%2e/axes", "//axes", "/{word}"],
)
def test_without_the_word_there_is_nothing(server: ViewServer, path: str) -> None:
    status, content, _ = ask(server, path.replace("{word}", server.word[:-1]))
    assert status == 404
    assert len(content) < 200


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ("../axes", 404),
        ("truth.nc", 404),
        ("field/../axes", 404),
        ("field?channel=0&init=1&view=0&lead=99999999999999999999", 400),
        ("field?channel=../../etc/passwd&init=1&view=0&lead=0", 400),
        ("axes?" + "x" * 60_000, 400),
        ("axes?" + "x" * 70_000, 414),
    ],
    ids=lambda value: str(value)[:40],
)
def test_other_requests_are_rejected(server: ViewServer, request_: str, status: int) -> None:
    assert ask(server, request_)[0] == status


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE", "XYZ"])
def test_nothing_is_written(server: ViewServer, method: str) -> None:
    assert ask(server, "axes", method)[0] == 501


def test_ranges_are_ignored(server: ViewServer) -> None:
    status, content, _ = ask(server, FIELD, Range="bytes=0-99999999999999")
    assert (status, len(content)) == (200, 4 * 6 * 8)


@pytest.mark.parametrize(
    "text",
    [
        b"GET http://evil.example{path}axes HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n",
        b"GET {path}axes HTTP/1.1\r\nHost: 127.0.0.1:1\r\nHost: localhost:1\r\n\r\n",
        b"GET {path}axes HTTP/1.1\r\n\r\n",
        b"GET {path}axes\r\n\r\n",
        b"\x00\xff\xfe\r\n\r\n",
        b"GET {path}axes HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n",
    ],
    ids=range(6),
)
def test_hostile_bytes_get_no_fields(server: ViewServer, text: bytes) -> None:
    path = urlsplit(server.url).path.encode()
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=300) as connection:
        connection.sendall(text.replace(b"{path}", path))
        connection.shutdown(socket.SHUT_WR)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    assert b"initTimes" not in received
    assert ask(server, FIELD)[0] == 200


def test_a_port_that_is_taken_is_named(server: ViewServer) -> None:
    with rejects("bad-setting", str(server.server_port)):
        ViewServer(server.answers, server.server_port)
