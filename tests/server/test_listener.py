"""Parsing of addresses, listening sockets, and the errors for addresses that cannot be opened."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from uvicorn.errors import ConfigError
from uvicorn.server.listener import Address, close_sockets, describe, open_sockets, parse_bind, parse_mode

ANY_PORT = Address("127.0.0.1", 0)


@contextmanager
def listening(*addresses: Address) -> Iterator[list[socket.socket]]:
    """Open the sockets of `addresses`, and close them at the end."""
    sockets = open_sockets(addresses, 16)
    try:
        yield sockets
    finally:
        close_sockets(sockets)


def complaint(*addresses: Address) -> str:
    """Return the error for `addresses`, which cannot be opened."""
    with pytest.raises(ConfigError) as caught, listening(*addresses):
        pass
    return str(caught.value)


def has_ipv6() -> bool:
    """Return whether this machine has ::1."""
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder whose name is short enough for a Unix socket in it."""
    with tempfile.TemporaryDirectory(prefix="u") as name:
        yield Path(name)


# What --bind means


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8001", Address("127.0.0.1", 8001)),
        ("127.0.0.1", Address("127.0.0.1", 8000)),
        ("localhost:0", Address("localhost", 0)),
        (":8001", Address("0.0.0.0", 8001)),
        ("example.org:65535", Address("example.org", 65535)),
        ("[::1]:8001", Address("::1", 8001)),
        ("[::1]", Address("::1", 8000)),
        ("unix:/run/web.sock", Address(path="/run/web.sock")),
        ("unix:///run/web.sock", Address(path="/run/web.sock")),
        ("unix:web.sock", Address(path="web.sock")),
        ("fd://3", Address(descriptor=3)),
        ("fd://0", Address(descriptor=0)),
    ],
)
def test_bind_address_is_parsed_in_the_syntax_of_gunicorn(text: str, address: Address) -> None:
    assert parse_bind(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1:",
        "127.0.0.1:http",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:+80",
        "127.0.0.1:999999999999999999999",
        "127.0.0.1:\u0668\u0660",
        "127.0.0.1:80:80",
        "::1",
        "[::1",
        "::1]:80",
        "[]:80",
        "http://127.0.0.1:80",
        "/run/web.sock",
        "unix:",
        "unix://",
        "fd://",
        "fd://x",
        "fd://-1",
        "fd://\u0663",
        "fd://99999999",
    ],
)
def test_error_for_a_malformed_bind_address_shows_the_expected_form(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_bind(text)
    message = str(caught.value)
    assert message.startswith(f"bind {text!r} ")
    assert "; expected " in message


@pytest.mark.parametrize("text", ["127.0.0.1:8001", "[::1]:8001", "unix:/run/web.sock", "fd://3"])
def test_str_of_a_parsed_bind_address_is_the_original_text(text: str) -> None:
    assert str(parse_bind(text)) == text


# Listening


def test_socket_opened_on_a_port_accepts_connections() -> None:
    with listening(ANY_PORT) as [sock], socket.create_connection(sock.getsockname(), timeout=30):
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


def test_a_listening_socket_is_non_blocking() -> None:
    with listening(ANY_PORT) as [sock]:
        assert sock.getblocking() is False


def test_a_listening_socket_may_be_inherited_by_worker_processes() -> None:
    with listening(ANY_PORT) as [sock]:
        assert os.get_inheritable(sock.fileno())


def test_port_can_be_reopened_while_an_old_connection_is_in_TIME_WAIT() -> None:
    with listening(ANY_PORT) as [first]:
        name = first.getsockname()
        with socket.create_connection(name, timeout=30):
            # Closed by us first, so that it is our side that lingers in TIME_WAIT.
            first.setblocking(True)
            first.accept()[0].close()
    with listening(Address(*name)) as [second]:
        assert second.getsockname() == name


def test_socket_is_opened_for_every_address(folder: Path) -> None:
    with listening(ANY_PORT, Address(path=str(folder / "web.sock")), ANY_PORT) as sockets:
        assert [sock.family for sock in sockets] == [socket.AF_INET, socket.AF_UNIX, socket.AF_INET]


@needs_ipv6
def test_socket_opened_on_an_ipv6_address_accepts_connections() -> None:
    with listening(Address("::1", 0)) as [sock], socket.create_connection(sock.getsockname()[:2], timeout=30):
        assert sock.family == socket.AF_INET6


@needs_ipv6
def test_server_listens_on_the_same_port_for_every_address_of_a_host_name(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = [(socket.AF_INET6, ("::1", 0, 0, 0)), (socket.AF_INET, ("127.0.0.1", 0))]
    found = [(family, socket.SOCK_STREAM, 6, "", name) for family, name in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **options: found)
    with listening(Address("localhost", 0)) as [first, second]:
        assert first.getsockname()[1] == second.getsockname()[1]


@needs_ipv6
def test_ipv4_socket_may_use_the_port_of_an_ipv6_socket() -> None:
    with listening(Address("::", 0)) as [first], listening(Address("0.0.0.0", first.getsockname()[1])) as [second]:
        assert second.family == socket.AF_INET


def test_unusable_address_of_a_host_name_is_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 0)) for host in ("192.0.2.1", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **options: found)
    with listening(Address("localhost", 0)) as [sock]:
        assert sock.getsockname()[0] == "127.0.0.1"


# What cannot be listened on


def test_error_for_a_port_in_use_names_the_port_and_the_remedy() -> None:
    with listening(ANY_PORT) as [sock]:
        port = sock.getsockname()[1]
        assert complaint(Address("127.0.0.1", port)) == (
            f"cannot listen on 127.0.0.1:{port}: the address is in use by another program; "
            "stop it, or choose another address with --bind"
        )


def test_error_for_an_address_given_twice_names_the_address() -> None:
    with listening(ANY_PORT) as [sock]:
        port = sock.getsockname()[1]
    assert f"cannot listen on 127.0.0.1:{port}: " in complaint(*2 * [Address("127.0.0.1", port)])


def test_error_for_an_address_that_this_machine_does_not_have_names_the_address() -> None:
    # TEST-NET-1 (RFC 5737): nobody's address.
    assert complaint(Address("192.0.2.1", 0)) == (
        "cannot listen on 192.0.2.1:0: this machine has no such address; 0.0.0.0 means all of its addresses"
    )


def test_error_for_an_unknown_host_name_contains_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*arguments: object, **options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    message = complaint(Address("nowhere.example", 8000))
    assert message.startswith("cannot listen on nowhere.example:8000: host 'nowhere.example' is unknown (")


def test_invalid_host_name_is_reported_as_unknown() -> None:
    assert "is unknown" in complaint(Address("x" * 64 + ".example", 8000))


def test_sockets_opened_earlier_are_closed_if_a_later_address_fails(folder: Path) -> None:
    path = folder / "web.sock"
    complaint(Address(path=str(path)), Address("192.0.2.1", 0))
    assert not path.exists()


@needs_ipv6
def test_sockets_of_a_host_name_are_closed_if_one_of_its_addresses_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A socket that is left open is a ResourceWarning, which fails the test.
    with listening(ANY_PORT) as [sock]:
        names = [(socket.AF_INET6, ("::1", 0, 0, 0)), (socket.AF_INET, sock.getsockname())]
        found = [(family, socket.SOCK_STREAM, 6, "", name) for family, name in names]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **options: found)
        assert "in use" in complaint(Address("localhost", sock.getsockname()[1]))


# Unix sockets


def test_unix_socket_accepts_connections(folder: Path) -> None:
    path = str(folder / "web.sock")
    with listening(Address(path=path)), closing(socket.socket(socket.AF_UNIX)) as client:
        client.connect(path)


def test_new_unix_socket_has_mode_0666(folder: Path) -> None:
    path = folder / "web.sock"
    with listening(Address(path=str(path))):
        assert stat.S_IMODE(path.stat().st_mode) == 0o666


def test_close_sockets_removes_the_file_of_a_unix_socket(folder: Path) -> None:
    path = folder / "web.sock"
    with listening(Address(path=str(path))):
        pass
    assert not path.exists()


def test_socket_file_with_a_relative_path_is_removed_after_chdir(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with listening(Address(path="web.sock")):
        monkeypatch.chdir("/")
    assert not (folder / "web.sock").exists()


def test_close_sockets_ignores_a_missing_unix_socket_file(folder: Path) -> None:
    path = folder / "web.sock"
    with listening(Address(path=str(path))):
        path.unlink()
    assert not path.exists()


def test_unix_socket_file_replaced_by_another_server_is_not_removed(folder: Path) -> None:
    path = folder / "web.sock"
    with listening(Address(path=str(path))):
        # Kept under another name, so that the new file cannot have the same inode.
        path.rename(folder / "old.sock")
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
    assert path.exists()


def test_a_stale_unix_socket_is_replaced(folder: Path) -> None:
    path = folder / "web.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with listening(Address(path=str(path))), closing(socket.socket(socket.AF_UNIX)) as client:
        client.connect(str(path))


def test_new_unix_socket_keeps_the_permissions_of_the_stale_socket_that_it_replaces(folder: Path) -> None:
    path = folder / "web.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    path.chmod(0o600)
    with listening(Address(path=str(path))):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_error_for_a_unix_socket_in_use_names_the_socket_and_the_remedy(folder: Path) -> None:
    path = folder / "web.sock"
    with listening(Address(path=str(path))):
        assert complaint(Address(path=str(path))).startswith(
            f"cannot listen on unix:{path}: the address is in use by another program; "
        )


def test_unix_socket_in_use_is_not_replaced(folder: Path) -> None:
    path = str(folder / "web.sock")
    with listening(Address(path=path)):
        complaint(Address(path=path))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)


def test_file_other_than_a_socket_is_not_replaced(folder: Path) -> None:
    path = folder / "diary.txt"
    path.write_text("Dear diary")
    complaint(Address(path=str(path)))
    assert path.read_text() == "Dear diary"


def test_error_for_a_path_that_is_not_a_socket_names_the_path(folder: Path) -> None:
    path = folder / "diary.txt"
    path.write_text("Dear diary")
    assert complaint(Address(path=str(path))) == (
        f"cannot listen on unix:{path}: the path exists and is not a socket; choose another"
    )


def test_error_for_a_unix_socket_in_a_missing_folder_names_the_socket(folder: Path) -> None:
    path = folder / "nowhere" / "web.sock"
    assert complaint(Address(path=str(path))).startswith(f"cannot listen on unix:{path}: No such file or directory; ")


def test_error_for_a_unix_socket_whose_folder_is_a_file_names_the_socket(folder: Path) -> None:
    (folder / "diary.txt").write_text("Dear diary")
    path = folder / "diary.txt" / "web.sock"
    assert complaint(Address(path=str(path))).startswith(f"cannot listen on unix:{path}: Not a directory; ")


def test_error_for_a_unix_socket_path_that_is_too_long_has_the_reason(folder: Path) -> None:
    assert "too long" in complaint(Address(path=str(folder / ("x" * 150))))


def test_error_for_missing_permissions_names_the_remedy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    # Tests may run as root, who is refused nothing.
    monkeypatch.setattr(os, "chmod", refuse)
    assert "permission denied; ports below 1024 and other users' folders need privileges" in complaint(
        Address(path=str(folder / "web.sock"))
    )


# Inherited descriptors


def test_inherited_listening_socket_accepts_connections() -> None:
    with socket.create_server(("127.0.0.1", 0)) as inherited:
        with listening(Address(descriptor=inherited.fileno())) as [sock]:
            assert sock.getsockname() == inherited.getsockname()


def test_inherited_bound_socket_accepts_connections() -> None:
    with socket.socket() as inherited:
        inherited.bind(("127.0.0.1", 0))
        with listening(Address(descriptor=inherited.fileno())) as [sock]:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


def test_an_inherited_socket_stays_open_for_the_parent_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as inherited:
        with listening(Address(descriptor=inherited.fileno())):
            pass
        assert inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


def test_an_inherited_unix_socket_is_not_removed(folder: Path) -> None:
    path = folder / "web.sock"
    with socket.socket(socket.AF_UNIX) as inherited:
        inherited.bind(str(path))
        with listening(Address(descriptor=inherited.fileno())):
            pass
    assert path.exists()


def test_error_for_a_closed_descriptor_names_the_descriptor() -> None:
    with tempfile.TemporaryFile() as file:
        number = file.fileno()
    assert complaint(Address(descriptor=number)) == (
        f"cannot listen on fd://{number}: Bad file descriptor; expected the descriptor of an inherited socket"
    )


def test_error_for_a_descriptor_that_is_not_a_socket_names_the_descriptor() -> None:
    with tempfile.TemporaryFile() as file:
        assert complaint(Address(descriptor=file.fileno())).startswith(f"cannot listen on fd://{file.fileno()}: ")


def test_failed_listen_on_a_descriptor_leaves_no_descriptor_open() -> None:
    with tempfile.TemporaryFile() as file:
        with tempfile.TemporaryFile() as probe:
            lowest_free = probe.fileno()
        complaint(Address(descriptor=file.fileno()))
        with tempfile.TemporaryFile() as probe:
            assert probe.fileno() == lowest_free


def test_inherited_datagram_socket_is_rejected() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as inherited:
        assert "expected a stream socket" in complaint(Address(descriptor=inherited.fileno()))


def test_error_for_an_inherited_socket_that_cannot_listen_names_the_descriptor() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert f"fd://{client.fileno()}" in complaint(Address(descriptor=client.fileno()))


# What is said about where we listen


def test_listening_port_is_described_as_a_url() -> None:
    with listening(ANY_PORT) as [sock]:
        assert describe(sock) == f"http://127.0.0.1:{sock.getsockname()[1]}"


def test_listening_port_with_tls_is_described_as_an_https_url() -> None:
    with listening(ANY_PORT) as [sock]:
        assert describe(sock, "https") == f"https://127.0.0.1:{sock.getsockname()[1]}"


@needs_ipv6
def test_an_ipv6_port_is_described_as_a_url() -> None:
    with listening(Address("::1", 0)) as [sock]:
        assert describe(sock) == f"http://[::1]:{sock.getsockname()[1]}"


def test_unix_socket_is_described_by_its_path(folder: Path) -> None:
    with listening(Address(path=str(folder / "web.sock"))) as [sock]:
        assert describe(sock) == f"unix:{folder / 'web.sock'}"


@pytest.mark.parametrize(("text", "mode"), [("", None), ("660", 0o660), ("0600", 0o600), ("0o770", 0o770)])
def test_uds_mode_is_parsed_from_octal_digits(text: str, mode: int | None) -> None:
    assert parse_mode(text) == mode


@pytest.mark.parametrize("text", ["66", "888", "rw", "6660", "-660"])
def test_uds_mode_other_than_three_octal_digits_is_rejected(text: str) -> None:
    with pytest.raises(ConfigError, match="uds_mode: expected three octal digits such as 660, got"):
        parse_mode(text)


@pytest.mark.parametrize("existing", [None, 0o666])
def test_unix_socket_has_the_mode_that_the_caller_passes(existing: int | None, tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    if existing is not None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
        path.chmod(existing)
    sockets = open_sockets([Address(path=str(path))], 16, 0o640)
    assert path.stat().st_mode & 0o777 == 0o640
    close_sockets(sockets)
