"""A head is known again by its bytes, and by nothing less."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.serve._head import KnownHead


class Parsed:
    """What httptools makes of bytes."""

    def __init__(self, data: bytes) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.bodies: list[bytes] = []
        self.whole = 0
        httptools.HttpRequestParser(self).feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.bodies.append(body)

    def on_message_complete(self) -> None:
        self.whole += 1


def request(*lines: bytes, body: bytes = b"{}") -> bytes:
    return b"\r\n".join((b"POST /decide HTTP/1.1", *lines)) + b"\r\n\r\n" + body


def learn(data: bytes) -> KnownHead | None:
    parsed = Parsed(data)
    return KnownHead.learn(data, url=parsed.url, headers=parsed.headers)


@pytest.mark.parametrize(
    "lines",
    [
        (),
        (b"transfer-encoding: chunked",),
        (b"x-content-length: 2",),
    ],
)
def test_a_request_that_does_not_say_its_length_is_not_learned(lines: tuple[bytes, ...]) -> None:
    data = request(*lines, body=b"2\r\n{}\r\n0\r\n\r\n" if b"chunked" in b"".join(lines) else b"")
    assert learn(data) is None


def test_what_the_bytes_do_not_bear_out_is_not_learned() -> None:
    data = request(b"content-length: 2")
    good = [(b"content-length", b"2")]
    assert KnownHead.learn(data, url=b"/", headers=good) is not None
    for headers in (
        [],
        good * 2,
        [(b"content-length", b"3")],
        [(b"content-length", b"+2")],
        [*good, (b"transfer-encoding", b"x")],
    ):
        assert KnownHead.learn(data, url=b"/", headers=headers) is None
    for other in (
        data[:-1],
        data + b"x",
        data.replace(b"\r\n\r\n", b"\n\n"),
        request(b"content-length: 2", b"Content-Length: 2"),
        request(b"content-length: 2;"),
        request(b"content-length: 12", body=b"{}"),
    ):
        assert KnownHead.learn(other, url=b"/", headers=good) is None


def test_a_large_head_is_not_kept_for_as_long_as_its_connection() -> None:
    small, large = (request(b"content-length: 2", b"x: " + b"y" * length) for length in (7_000, 9_000))
    assert learn(small) is not None
    assert learn(large) is None


def test_a_head_says_what_follows_it() -> None:
    head = learn(request(b"Host: x", b"CONTENT-LENGTH:\t 2", b"authorization: Bearer abc"))
    assert head is not None
    found = head.match(request(b"Host: x", b"CONTENT-LENGTH:\t 10", b"authorization: Bearer abc", body=b"0123456789"))
    assert found is not None
    body, headers = found
    assert (head.url, body, headers[b"content-length"]) == (b"/decide", b"0123456789", b"10")
    assert headers[b"authorization"] == b"Bearer abc"
    # Another token is another head.
    assert head.match(request(b"Host: x", b"CONTENT-LENGTH:\t 2", b"authorization: Bearer abd")) is None


PIECES = st.sampled_from(
    [
        b"POST /decide HTTP/1.1", b"\r\n", b"\n", b"host: x", b"content-length: ", b"Content-Length:", b"2", b"10",
        b"02", b" ", b"{}", b"-", b"0x", b"0123456789", b"transfer-encoding: chunked", b"\r\n\r\n", b"\x00",
    ]
)  # fmt: skip


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(st.lists(PIECES, max_size=8), st.integers(0, 60), st.integers(0, 60))
def test_what_is_known_again_is_what_the_parser_would_have_said(pieces: list[bytes], begin: int, end: int) -> None:
    learned = request(b"host: x", b"content-length: 2", b"x: y")
    head = learn(learned)
    assert head is not None
    middle = b"".join(pieces)
    data = learned[: len(learned) - begin] + middle + learned[len(learned) - min(begin, end) :]
    for each in (data, request(b"host: x", b"content-length: " + middle, b"x: y", body=middle)):
        found = head.match(each)
        if found is not None:
            parsed = Parsed(each)
            assert parsed.whole == 1
            assert (head.url, b"".join(parsed.bodies)) == (parsed.url, found[0])
            assert dict(parsed.headers) == found[1]
