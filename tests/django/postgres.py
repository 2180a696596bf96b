"""A PostgreSQL server for tests, in a temporary folder, on a Unix socket."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

#: The name of every database, so that what is written here is what an application reads.
DATABASE: Final = "postgres"

#: Connections that the server takes: fewer than the applications that leak them would open.
MAX_CONNECTIONS: Final = 90


def executable(name: str) -> str:
    """Return the path of a program of PostgreSQL. Debian installs it in a folder outside of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else shutil.which(name) or name


def account() -> dict[str, Any]:
    """Return the user arguments for `subprocess`, because PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    entry = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


@contextmanager
def postgres_server() -> Iterator[Path]:
    """Run a server. Yield the folder of its socket, which clients use as the host."""
    # Not below pytest's folder, which only its owner may enter; and the path of a socket is short.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    run_as = account()
    try:
        if run_as:
            os.chown(folder, run_as["user"], run_as["group"])
        data = folder / "data"
        options = ["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"]
        subprocess.run(
            [executable("initdb"), *options, "-D", str(data)], check=True, capture_output=True, cwd=folder, **run_as
        )
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(folder),
            "max_connections": str(MAX_CONNECTIONS),
            "fsync": "off",
            "shared_buffers": "16MB",
        }
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [executable("postgres"), "-D", str(data), *arguments], stdout=log, stderr=log, cwd=folder, **run_as
            )
        try:
            _wait_until_ready(folder, process)
            yield folder
        finally:
            # Fast shutdown: connections are ended.
            process.send_signal(2)
            process.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_ready(folder: Path, process: subprocess.Popen[bytes]) -> None:
    while subprocess.run([executable("pg_isready"), "-q", "-h", str(folder), "-t", "10"]).returncode:
        if process.poll() is not None:
            raise AssertionError(f"postgres does not start: {(folder / 'log').read_text()[-2000:]}")
