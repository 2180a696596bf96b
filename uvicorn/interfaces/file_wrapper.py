"""`wsgi.file_wrapper` sends a file as content (PEP 3333, "Optional Platform-Specific File Handling")."""

from __future__ import annotations

import os
import stat
import wsgiref.util
from io import BufferedRandom, BufferedReader, FileIO
from typing import Any, Final, NamedTuple

# Up to this size, reading and writing the file costs less than having the kernel send it.
_LEAST_BYTES: Final = 65536


class FileWrapper(wsgiref.util.FileWrapper):
    """Iterates over a file in blocks, from the file's current position."""

    def __init__(self, filelike: Any, block_bytes: int = 65536) -> None:
        # Not the constructor of the base class: it would hide the method `close` of a subclass.
        self.filelike, self.blksize = filelike, block_bytes

    def seekable(self) -> bool:
        seekable = getattr(self.filelike, "seekable", None)
        if seekable is not None:
            return bool(seekable())
        return hasattr(self.filelike, "seek") and hasattr(self.filelike, "tell")

    def seek(self, *position: int) -> Any:
        return self.filelike.seek(*position)

    def tell(self) -> Any:
        return self.filelike.tell()

    def close(self) -> None:
        close = getattr(self.filelike, "close", None)
        if close is not None:
            close()


class FilePart(NamedTuple):
    """A part of `file`: `length` bytes from byte `start`."""

    file: FileIO
    start: int
    length: int


def part_to_send(filelike: Any) -> FilePart | None:
    """If the kernel should send the file (more than 64 KiB), return the unread part. Otherwise return None."""
    # The `read` of a subclass, such as GzipFile, may return other bytes than the descriptor has.
    buffered = type(filelike) is BufferedReader or type(filelike) is BufferedRandom
    try:
        raw = filelike.raw if buffered else filelike
        if type(raw) is not FileIO or not raw.readable():
            return None
        if buffered:
            # Written bytes may still be in the buffer.
            filelike.flush()
        start = filelike.tell()
        status = os.fstat(raw.fileno())
    except (OSError, ValueError):
        # The file is closed, detached, or a pipe; reading it raises the error.
        return None
    # Files of /proc have content in spite of their size, 0 bytes: they must be read.
    length = status.st_size - start
    return FilePart(raw, start, length) if stat.S_ISREG(status.st_mode) and length > _LEAST_BYTES else None
