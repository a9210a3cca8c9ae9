"""Messages between processes of one machine: a length, and a msgpack value."""

from __future__ import annotations

import msgspec

__all__ = ["CHUNK", "Frames", "framed"]

_ENCODER = msgspec.msgpack.Encoder()
_HEAD = 4

# Bytes that are read at once.
CHUNK = 256 * 1024


class Frames:
    r"""Cuts what a stream gives into messages.

    Parameters
    ----------
    most : int, optional
        Bytes of the largest message that may come; any, where the other end is trusted.

    Examples
    --------
    >>> frames = Frames()
    >>> frames.feed(b"\0\0\0\2\x92"), frames.feed(b"\1")
    ([], [b'\x92\x01'])
    """

    def __init__(self, *, most: int | None = None) -> None:
        self._rest = b""
        self._most = most

    def feed(self, data: bytes) -> list[bytes]:
        """Return the messages that are whole; the rest waits for more.

        Parameters
        ----------
        data : bytes
            The next that came.

        Returns
        -------
        list of bytes
            All at once: whoever fails over one message, or stops after it, must not leave the others half read.

        Raises
        ------
        ValueError
            The next message would be larger than may come.
        """
        data = self._rest + data if self._rest else data
        messages, at = list[bytes](), 0
        while len(data) - at >= _HEAD:
            length = int.from_bytes(data[at : at + _HEAD], "big")
            if self._most is not None and length > self._most:
                raise ValueError(f"expected a message of at most {self._most} bytes, got {length}")
            end = at + _HEAD + length
            if end > len(data):
                break
            messages.append(data[at + _HEAD : end])
            at = end
        self._rest = data[at:]
        return messages


def framed(message: msgspec.Struct) -> bytes:
    """Return a message as it is sent.

    Parameters
    ----------
    message : Struct
        With ``array_like``, which is shorter.

    Returns
    -------
    bytes
        Four of its length, and the message.
    """
    body = _ENCODER.encode(message)
    return len(body).to_bytes(_HEAD, "big") + body
