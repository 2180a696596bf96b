"""An environment with the public release in it, made once."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any, Final

import uvicorn
from tests.public_release import surface

#: The release whose surface this package carries.
RELEASE: Final = uvicorn.__version__.partition("+")[0]

ROOT: Final = Path(__file__).parents[2]


@cache
def public_release() -> dict[str, Any]:
    """Return the surface of the public release."""
    # Without variables of this project's tests that an interpreter or a `Config` would read.
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "UVICORN_", "WEB_"))}
    python = environment("public-release", f"uvicorn[standard]=={RELEASE}") / "bin" / "python"
    done = subprocess.run([python, "-I", surface.__file__], env=environ, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def environment(name: str, *requirements: str) -> Path:
    """Return the folder of an environment; make it unless it is there. Other processes of the test run wait for it."""
    folder = ROOT / "bench" / ".environments" / f"{name}-{sys.version_info[0]}.{sys.version_info[1]}"
    stamp = folder / "made-of.txt"
    made_of = "\n".join(requirements)
    folder.parent.mkdir(exist_ok=True)
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != made_of:
            subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", folder], check=True)
            install(folder, *requirements)
            stamp.write_text(made_of)
    return folder


def install(folder: Path, *requirements: str) -> None:
    """Install into an environment, with the pip of this one: Debian's python3 may be without ensurepip."""
    pip = [sys.executable, "-m", "pip", "--python", str(folder), "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, *requirements], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"pip cannot install {', '.join(requirements)}: {done.stderr}")
