"""A WSGI application that follows a script, and records its calls and results."""

from __future__ import annotations

import inspect
import io
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from wsgiref.validate import check_environ  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Start:
    """Call start_response. If `again`, pass exc_info. If `caught`, catch an exception of start_response."""

    status: str = "200 OK"
    headers: tuple[tuple[str, str], ...] = ()
    again: bool = False
    caught: bool = False


@dataclass(frozen=True)
class Write:
    """Call write() with this number of bytes."""

    count: int


@dataclass(frozen=True)
class Yield:
    """Yield this number of bytes; a negative number yields an object other than bytes."""

    count: int


@dataclass(frozen=True)
class Read:
    """Read content. After an exception read no more. If `caught`, continue with the script."""

    how: str
    count: int = 0
    caught: bool = True


@dataclass(frozen=True)
class Raise:
    """Raise an exception of this type."""

    error: type[BaseException]


Step = Start | Write | Yield | Read | Raise


@dataclass(frozen=True)
class Script:
    """`calls` runs when the application is called. `iterates` runs in the iterable, whose kind is `returns`."""

    returns: str = "list"
    calls: tuple[Step, ...] = ()
    iterates: tuple[Step, ...] = ()
    #: What close() raises.
    close_raises: type[BaseException] | None = None

    @property
    def steps(self) -> tuple[Step, ...]:
        return self.calls + self.iterates


@dataclass
class Seen:
    """What one call received from the host."""

    environ: dict[str, Any] = field(default_factory=dict)
    environ_faults: list[str] = field(default_factory=list)
    calls: int = 0
    #: What reads returned, and that start_response raised.
    events: list[object] = field(default_factory=list)
    read_failed: bool = False
    read_failure_was_caught: bool = False
    #: Iterables with a close() that were returned, and calls of it.
    returned: int = 0
    closed: int = 0
    generator: Generator[bytes, None, None] | None = None

    @property
    def content(self) -> bytes:
        """The content returned by all reads."""
        return b"".join(event for event in self.events if isinstance(event, bytes))

    @property
    def generator_is_done(self) -> bool:
        return self.generator is None or inspect.getgeneratorstate(self.generator) == inspect.GEN_CLOSED


class ScriptedApp:
    """`app(environ, start_response)`; set `script` and `seen` before each request."""

    def __init__(self) -> None:
        self.script = Script()
        self.seen = Seen()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        self.seen.environ = dict(environ)
        self.seen.calls += 1
        try:
            # Of methods it knows only the usual, and warns of others.
            check_environ({**environ, "REQUEST_METHOD": "GET"})
        except AssertionError as error:
            self.seen.environ_faults.append(str(error))
        return _Call(self.script, self.seen, environ, start_response).answer()


class _Call:
    def __init__(self, script: Script, seen: Seen, environ: dict[str, Any], start_response: Callable[..., Any]) -> None:
        self._script = script
        self._seen = seen
        self._input = environ["wsgi.input"]
        self._file_wrapper = environ.get("wsgi.file_wrapper")
        self._start_response = start_response
        self._write: Any = None
        self._pieces = 0

    def answer(self) -> Any:
        script, seen = self._script, self._seen
        if script.returns == "generator":
            seen.generator = self._do(script.steps)
            return seen.generator
        for _ in self._do(script.calls):
            raise AssertionError("nothing can be yielded yet")
        if script.returns == "nothing":
            return None
        contents = self._do(script.iterates)
        if script.returns == "list":
            return list(contents)
        if script.returns == "tuple":
            return tuple(contents)
        if script.returns == "endless":
            contents = self._without_end(contents)
        answer: Any = (_Iterable if script.returns == "iterable" else _Iterator)(self, contents)
        if script.returns == "file" and self._file_wrapper is not None:
            answer = self._file_wrapper(_File(self, b"".join(contents)), 1000)
        seen.returned += 1
        return answer

    def close(self) -> None:
        self._seen.closed += 1
        if self._script.close_raises is not None:
            raise self._script.close_raises("in close")

    def _do(self, steps: Iterable[Step]) -> Generator[bytes, None, None]:
        for step in steps:
            match step:
                case Start():
                    self._start(step)
                case Write(count):
                    self._write(self._piece(count))
                case Yield(count):
                    yield self._piece(count) if count >= 0 else "text"  # type: ignore[misc]
                case Read():
                    self._read(step)
                case Raise(error):
                    raise error("scripted")

    def _without_end(self, contents: Iterator[bytes]) -> Generator[bytes, None, None]:
        yield from contents
        while True:
            yield self._piece(1000)

    def _piece(self, count: int) -> bytes:
        self._pieces += 1
        return (b"%d " % self._pieces * count)[:count]

    def _start(self, step: Start) -> None:
        if not step.again:
            self._write = self._start_response(step.status, list(step.headers))
            return
        try:
            try:
                raise LookupError("reported by exc_info")
            except LookupError:
                self._write = self._start_response(step.status, list(step.headers), sys.exc_info())
        except LookupError:
            self._seen.events.append("reraised")
            if not step.caught:
                raise

    def _read(self, step: Read) -> None:
        seen = self._seen
        if seen.read_failed:
            return
        try:
            result = READS[step.how](self._input, step.count)
            seen.events += result if isinstance(result, list) else [result]
        except Exception:
            seen.read_failed, seen.read_failure_was_caught = True, step.caught
            if not step.caught:
                raise


READS: dict[str, Callable[[Any, int], Any]] = {
    "read()": lambda source, count: source.read(),
    "read(-1)": lambda source, count: source.read(-1),
    "read(n)": lambda source, count: source.read(count),
    "readline()": lambda source, count: source.readline(),
    "readline(n)": lambda source, count: source.readline(count),
    "readlines()": lambda source, count: source.readlines(),
    "readlines(n)": lambda source, count: source.readlines(count),
    "iterate": lambda source, count: list(source),
    "next": lambda source, count: next(iter(source), b""),
}


class _Iterator:
    def __init__(self, call: _Call, contents: Iterator[bytes]) -> None:
        self.close = call.close
        self._contents = contents

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._contents)


class _Iterable:
    """An iterable that is not its own iterator."""

    def __init__(self, call: _Call, contents: Iterator[bytes]) -> None:
        self.close = call.close
        self._contents = contents

    def __iter__(self) -> Iterator[bytes]:
        return self._contents


class _File:
    def __init__(self, call: _Call, content: bytes) -> None:
        self.close = call.close
        self.read = io.BytesIO(content).read
