"""A virtual environment for each contender, isolated from the other packages and from the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

BENCH = Path(__file__).resolve().parent
CHECKOUT = BENCH.parent
# Servers run here: it holds applications and no package that could stand in for an installed one.
APPS = BENCH / "apps"

# Settings of the caller's shell that would change what a contender does.
_FOREIGN = ("PYTHON", "UVICORN_", "GRANIAN_", "GUNICORN_", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS")

# What is not worth copying to build a package from, and what an earlier build has left.
_NOT_SOURCE = (".*", "build", "dist", "bench", "docs", "tests", "*.egg-info", "__pycache__")


class CannotRun(Exception):
    """A contender cannot be installed or started; the text has the reason."""


@dataclass(frozen=True)
class Environment:
    """The environment of one contender.

    `requirements` are for pip; `package` is the measured one. With `from_checkout`, the checkout is installed as well.
    The packages `without_dependencies` are built from source without assertions. `python` is the interpreter.
    """

    name: str
    package: str
    requirements: tuple[str, ...] = ()
    from_checkout: bool = False
    without_dependencies: tuple[str, ...] = ()
    python: str = sys.executable

    @property
    def folder(self) -> Path:
        return BENCH / ".environments" / self.name

    def program(self, name: str) -> str:
        """Return the path of one of its programs."""
        return str(self.folder / "bin" / name)

    def make(self) -> str:
        """Create it unless it exists; return the version of its package. Raises CannotRun."""
        stamp = self.folder / "made-of.txt"
        wanted = "\n".join((self.python_version(), *self._requirements(), *self.without_dependencies))
        if not stamp.exists() or stamp.read_text() != wanted:
            print(f"making the environment {self.name} ...", file=sys.stderr)
            _run([self.python, "-m", "venv", "--clear", str(self.folder)])
            self._pip_install("--upgrade", *self._requirements())
            if self.without_dependencies:
                how = ("--no-deps", "--no-build-isolation", "--no-binary", ":all:")
                self._pip_install(*how, *self.without_dependencies, CFLAGS="-DNDEBUG")
            stamp.write_text(wanted)
        if self.from_checkout:
            self._install_checkout()
        return self._version()

    def python_version(self) -> str:
        """Return the version of its Python. Raises CannotRun if there is no such interpreter."""
        return _run([self.python, "-c", "import platform; print(platform.python_version())"]).strip()

    def _requirements(self) -> tuple[str, ...]:
        if not self.from_checkout:
            return self.requirements
        # Builds then need no network, which they would to make an environment of their own each time.
        project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
        return (*self.requirements, *project["build-system"]["requires"])

    def _install_checkout(self) -> None:
        # A copy: others may edit the checkout during the run, and a build must find nothing that an earlier one left.
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, self.package)
            shutil.copytree(CHECKOUT, source, ignore=shutil.ignore_patterns(*_NOT_SOURCE))
            self._pip_install("--no-build-isolation", str(source))

    def _pip_install(self, *arguments: str, **variables: str) -> None:
        command = [self.program("python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*command, *arguments], variables)

    def _version(self) -> str:
        """Return the package's version. Raises CannotRun if another environment's package would be imported."""
        script = f"import {self.package}, importlib.metadata as m; print(m.version('{self.package}')); "
        script += f"print({self.package}.__file__)"
        version, file = _run([self.program("python"), "-c", script]).split("\n")[:2]
        if not Path(file).resolve().is_relative_to(self.folder.resolve()):
            raise CannotRun(f"{self.package} would be imported from outside of its environment: {file}")
        return version


def clean_environ() -> dict[str, str]:
    """Return the environment variables for a contender."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}


def _run(command: list[str], variables: dict[str, str] | None = None) -> str:
    environ = clean_environ() | (variables or {})
    try:
        done = subprocess.run(command, cwd=APPS, env=environ, capture_output=True, text=True, check=False)
    except OSError as error:
        raise CannotRun(str(error)) from None
    if done.returncode:
        raise CannotRun(complaint(done.stderr) or f"{command[0]} exited with {done.returncode}")
    return done.stdout


def complaint(text: str) -> str:
    """Return the last line of a program's output that contains an error, or else its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "error" in line.lower()), lines[-1] if lines else "")
