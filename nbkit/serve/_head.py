"""A head that a connection has sent before: who keeps it open changes nothing but the length of the body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nbkit.serve._turn import Caller

__all__ = ["KnownHead"]

_LENGTH = b"content-length"
_END = b"\r\n\r\n"

# Digits of a length; more is larger than any body that is read.
_MOST_DIGITS = 9

# Of a head that is kept, for as long as its connection is there; a token and a trace fit.
_MOST_BYTES = 8 * 1024


@dataclass(slots=True, kw_only=True)
class KnownHead:
    """What came before and after the digits of the content length, and what the parser made of it all.

    The same bytes would be parsed the same again, and other digits would only be another length.

    Parameters
    ----------
    before, after : bytes
        Of the digits; ``after`` ends the head.
    url : bytes
        Of the request line.
    headers : dict of bytes to bytes
        Names in lower case.
    admitted : (Caller, object), optional
        Whom the guard knew by it, and what must not have changed since.
    """

    before: bytes
    after: bytes
    url: bytes
    headers: dict[bytes, bytes]
    admitted: tuple[Caller, object] | None = None

    @classmethod
    def learn(cls, data: bytes, *, url: bytes, headers: Sequence[tuple[bytes, bytes]]) -> KnownHead | None:
        r"""Take up the head of a request that was parsed.

        Parameters
        ----------
        data : bytes
            One request, whole and alone.
        url : bytes
            As the parser gave it.
        headers : sequence of (bytes, bytes)
            As the parser gave them.

        Returns
        -------
        KnownHead or None
            None where its length is not said once and in digits, the bytes do not bear it out, or it is too large.

        Examples
        --------
        >>> request = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
        >>> head = KnownHead.learn(request, url=b"/", headers=[(b"content-length", b"2")])
        >>> head.match(b"POST / HTTP/1.1\r\nContent-Length: 7\r\n\r\n{'a':1}")
        (b"{'a':1}", {b'content-length': b'7'})
        """
        head, found, body = data.partition(_END)
        lengths = [value for name, value in headers if name == _LENGTH]
        lowered = head.lower()
        if not found or len(head) > _MOST_BYTES or len(lengths) != 1 or lowered.count(b"\r\n" + _LENGTH + b":") != 1:
            return None
        digits = lengths[0]
        begin = lowered.index(b"\r\n" + _LENGTH + b":") + len(_LENGTH) + 3
        begin += len(head[begin:]) - len(head[begin:].lstrip(b" \t"))
        end = begin + len(digits)
        whole = digits.isdigit() and len(digits) <= _MOST_DIGITS and len(body) == int(digits)
        if not whole or head[begin:end] != digits or (head + b"\r\n")[end : end + 2] != b"\r\n":
            return None
        if any(name == b"transfer-encoding" for name, _ in headers):
            return None
        return cls(before=head[:begin], after=head[end:] + _END, url=url, headers=dict(headers))

    def match(self, data: bytes) -> tuple[bytes, Mapping[bytes, bytes]] | None:
        """Return the body and the headers of another request, if it has this head.

        Parameters
        ----------
        data : bytes
            As it arrived at the beginning of a request.

        Returns
        -------
        tuple or None
            None where it is not one request, whole and alone, with this head.
        """
        at = self.find_body(data)
        if not at:
            return None
        self.headers[_LENGTH] = data[len(self.before) : at - len(self.after)]
        return data[at:], self.headers

    def find_body(self, data: bytes) -> int:
        """Return where the body of another request begins, if it has this head.

        Parameters
        ----------
        data : bytes
            As `match` takes it.

        Returns
        -------
        int
            0 where `match` returns None.
        """
        if not data.startswith(self.before):
            return 0
        begin = len(self.before)
        end = data.find(b"\r\n", begin, begin + _MOST_DIGITS + 2)
        digits = data[begin:end]
        if end < 0 or not digits.isdigit() or not data.startswith(self.after, end):
            return 0
        at = end + len(self.after)
        return at if len(data) - at == int(digits) else 0
