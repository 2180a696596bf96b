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

_ROOT: Final = Path(__file__).parents[2]
_REQUIREMENT: Final = f"uvicorn[standard]=={RELEASE}"


@cache
def public_release() -> dict[str, Any]:
    """Return the surface of the public release."""
    # Without variables of this project's tests that an interpreter or a `Config` would read.
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "UVICORN_", "WEB_"))}
    python = _environment() / "bin" / "python"
    done = subprocess.run([python, "-I", surface.__file__], env=environ, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _environment() -> Path:
    """Make it unless it is there; other processes of the test run wait meanwhile."""
    folder = _ROOT / "bench" / ".environments" / f"public-release-{sys.version_info[0]}.{sys.version_info[1]}"
    stamp = folder / "made-of.txt"
    folder.parent.mkdir(exist_ok=True)
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != _REQUIREMENT:
            # The pip of this environment, since Debian's python3 may be without ensurepip.
            subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", folder], check=True)
            pip = [
                sys.executable,
                "-m",
                "pip",
                "--python",
                str(folder),
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ]
            subprocess.run([*pip, _REQUIREMENT], check=True, stderr=subprocess.PIPE)
            stamp.write_text(_REQUIREMENT)
    return folder
