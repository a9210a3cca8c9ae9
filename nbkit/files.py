"""Write a file whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

__all__ = ["write_atomically"]

_READABLE = 0o644


def write_atomically(path: Path, *, content: bytes, mode: int = _READABLE) -> None:
    """Put a file in place so that a reader sees the old content or the new, also after a crash.

    Parameters
    ----------
    path : Path
        Its folder is made when it is missing.
    content : bytes
        All of the file.
    mode : int
        Permissions of the file.

    Raises
    ------
    OSError
        It cannot be written; what stood there before still does, and nothing else is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _settle(path.parent)


def _settle(folder: Path) -> None:
    """Put the folder's entries on the disk: only then does the new name survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
