"""Parses `--bind` and opens listening sockets."""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from uvicorn.errors import ConfigError

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8000

#: The line that programs wait for before they connect.
RUNNING: Final = "Uvicorn running on %s (Press CTRL+C to quit)"

_UDS_MODE: Final = 0o666

_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address, a Unix socket's path or an inherited descriptor."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    path: str = ""
    descriptor: int = -1

    @property
    def is_tcp(self) -> bool:
        return not self.path and self.descriptor < 0

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        if self.descriptor >= 0:
            return f"fd://{self.descriptor}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class _OwnUnixSocket(socket.socket):
    def remember_file(self, path: str) -> None:
        self._path = os.path.abspath(path)
        self._inode = os.stat(path).st_ino

    def remove_file(self) -> None:
        with suppress(FileNotFoundError):
            if os.stat(self._path).st_ino == self._inode:
                os.unlink(self._path)


def parse_bind(text: str, option: str = "bind") -> Address:
    """Parse an address such as HOST:PORT or unix:PATH. Raises ConfigError."""
    expected = "expected HOST:PORT, [IPV6]:PORT, unix:PATH or fd://N"
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        if not path:
            raise ConfigError(f"{option} {text!r} has no path; {expected}")
        return Address(path=path)
    if text.startswith("fd://"):
        number = text.removeprefix("fd://")
        if not (number.isascii() and number.isdigit() and len(number) < 7):
            raise ConfigError(f"{option} {text!r} has no descriptor number; {expected}")
        return Address(descriptor=int(number))
    match = re.fullmatch(r"(?:\[(?P<ipv6>[^\]]+)\]|(?P<host>[^:\[\]/]*))(?::(?P<port>[^:]*))?", text)
    if match is None:
        raise ConfigError(f"{option} {text!r} is not an address; {expected}")
    if match["port"] is None and option != "bind":
        raise ConfigError(f"{option} {text!r} has no port; expected HOST:PORT or [IPV6]:PORT, such as 127.0.0.1:9100")
    port = match["port"] if match["port"] is not None else str(DEFAULT_PORT)
    if not (port.isascii() and port.isdigit() and len(port) < 6 and int(port) < 65536):
        raise ConfigError(f"{option} {text!r} has port {port!r}; expected a number from 0 to 65535")
    # An empty host means all network interfaces, as in gunicorn's ":8000".
    return Address(host=match["ipv6"] or match["host"] or "0.0.0.0", port=int(port))


def parse_mode(text: str) -> int | None:
    """Parse octal permissions such as 660. For an empty text, return None. Raises ConfigError."""
    if not text:
        return None
    match = re.fullmatch(r"(?:0o?)?([0-7]{3})", text)
    if match is None:
        raise ConfigError(f"uds_mode: expected three octal digits such as 660, got {text!r:.40}")
    return int(match[1], 8)


def open_sockets(
    addresses: Sequence[Address], backlog: int, uds_mode: int | None = None, option: str = "bind"
) -> list[socket.socket]:
    """Open non-blocking listening sockets on all `addresses`. Raises ConfigError for an unusable address."""
    sockets: list[socket.socket] = []
    try:
        for address in addresses:
            try:
                for sock in _open(address, uds_mode):
                    sockets.append(sock)
                    sock.setblocking(False)
                    os.set_inheritable(sock.fileno(), True)
                    sock.listen(backlog)
            except OSError as error:
                raise ConfigError(f"cannot listen on {address}: {_advice(error, option)}") from None
    except BaseException:
        close_sockets(sockets)
        raise
    return sockets


def check_for_debug(addresses: Sequence[Address] = (), sockets: Sequence[socket.socket] = (), workers: int = 1) -> None:
    """Allow the debugger on one worker and loopback addresses only. Raises ConfigError."""
    public = [str(address) for address in addresses if not (address.is_tcp and address.host in _LOOPBACK)]
    public += [describe(sock).removeprefix("http://") for sock in sockets if not _is_on_loopback(sock)]
    if public or workers > 1:
        found = f"{workers} workers" if workers > 1 else ", ".join(public)
        raise ConfigError(
            f"debug: expected one worker that listens on {' or '.join(_LOOPBACK)}, because the debugger lets its "
            f"users run code; got {found}"
        )


def _is_on_loopback(sock: socket.socket) -> bool:
    is_tcp = sock.family in (socket.AF_INET, socket.AF_INET6)
    return is_tcp and (sock.getsockname()[0] == "::1" or sock.getsockname()[0].startswith("127."))


def close_sockets(sockets: Sequence[socket.socket]) -> None:
    """Close the sockets. Remove the socket files that this process created."""
    for sock in sockets:
        if isinstance(sock, _OwnUnixSocket):
            sock.remove_file()
        sock.close()


def describe(sock: socket.socket, scheme: str = "http") -> str:
    """Return the address as a URL. For a Unix socket, return `unix:PATH`."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{name}"
    host = f"[{name[0]}]" if sock.family == socket.AF_INET6 else name[0]
    return f"{scheme}://{host}:{name[1]}"


def running_on(sock: socket.socket, scheme: str = "http") -> str:
    """Return the socket's address for the log line `RUNNING`."""
    return f"unix socket {sock.getsockname()}" if sock.family == socket.AF_UNIX else describe(sock, scheme)


def _open(address: Address, uds_mode: int | None) -> Iterator[socket.socket]:
    if address.path:
        yield _open_unix(address, uds_mode)
    elif address.descriptor >= 0:
        yield _open_descriptor(address)
    else:
        yield from _open_tcp(address)


def _open_tcp(address: Address) -> Iterator[socket.socket]:
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise ConfigError(
            f"cannot listen on {address}: host {address.host!r} is unknown ({error}); expected a name or "
            "address of this machine"
        ) from None
    port = address.port
    is_open = False
    failure: OSError | None = None
    for family, kind, protocol, _, (host, _, *rest) in dict.fromkeys(found):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((host, port, *rest))
        except OSError as error:
            sock.close()
            # "localhost" has two addresses, and the machine may have only one of them.
            if error.errno != errno.EADDRNOTAVAIL:
                raise
            failure = error
        else:
            # For port 0, all addresses get the same port.
            port = sock.getsockname()[1]
            is_open = True
            yield sock
    if failure is not None and not is_open:
        raise failure


def _open_unix(address: Address, uds_mode: int | None) -> socket.socket:
    path = address.path
    mode = _UDS_MODE
    with suppress(FileNotFoundError):
        found = os.stat(path)
        if not stat.S_ISSOCK(found.st_mode):
            raise ConfigError(f"cannot listen on {address}: the path exists and is not a socket; choose another")
        if _answers(path):
            raise OSError(errno.EADDRINUSE, "")
        mode = stat.S_IMODE(found.st_mode)
        os.unlink(path)
    sock = _OwnUnixSocket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        # Clients can connect only after listen(), so no other permissions are ever in force.
        os.chmod(path, mode if uds_mode is None else uds_mode)
        sock.remember_file(path)
    except OSError:
        sock.close()
        raise
    return sock


def _open_descriptor(address: Address) -> socket.socket:
    descriptor = -1
    try:
        descriptor = os.dup(address.descriptor)
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        if descriptor >= 0:
            os.close(descriptor)
        raise ConfigError(
            f"cannot listen on {address}: {error.strerror}; expected the descriptor of an inherited socket"
        ) from None
    if sock.type != socket.SOCK_STREAM:
        sock.close()
        raise ConfigError(f"cannot listen on {address}: expected a stream socket, found {sock.type!r}")
    return sock


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except OSError:
            return False
        return True


def _advice(error: OSError, option: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"the address is in use by another program; stop it, or choose another address with --{option}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            "permission denied; ports below 1024 and other users' folders need privileges; "
            f"choose another address with --{option}"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address; 0.0.0.0 means all of its addresses"
    return f"{error.strerror or error}; choose another address with --{option}"
