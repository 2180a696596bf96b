"""What the kernel has yet to bring to a client."""

from __future__ import annotations

import fcntl
import struct
import termios
from typing import Any


def unacknowledged_bytes(sock: Any) -> int:
    """Bytes that were written to the socket and that its client has not acknowledged; 0 where that is not known.

    A slow client's socket takes more in lumps, of up to a third of what the kernel holds for it (Linux), so that what
    it takes in a minute is not what the client does.
    """
    try:
        taken: bytes = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
    except (AttributeError, OSError, ValueError):
        return 0
    count: int = struct.unpack("i", taken)[0]
    return count
