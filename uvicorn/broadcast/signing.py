"""Control messages that only those can send who know the secret.

Each carries its sender, the sender's number for it, the time and the command, and an HMAC over these and the process
that it is for. It is taken once, and within a minute.
"""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias, final

from uvicorn.errors import ConfigError
from uvicorn.types import Message

Secret: TypeAlias = str | bytes

#: 60 s: what clocks of one site may differ by, and what a message may take.
WINDOW_SECONDS: Final = 60.0
# 16 bytes: 128 bits, if they are random.
_LEAST_BYTES: Final = 16
# So many senders are remembered; only those who know the secret can add one.
_MOST_SENDERS: Final = 100_000

_FAR_FUTURE: Final = 1e12

_PURPOSE: Final = "uvicorn control message 1"
_SIGNATURE: Final = "signature"

# What signers of this process that were closed have received within the last minutes.
_past: Final[dict[str, tuple[int, float]]] = {}


@final
class Signer:
    """Signs by the first secret, and knows signatures by any of them."""

    def __init__(self, secrets: Sequence[bytes], clock: Callable[[], float] = time.time) -> None:
        self._secrets = tuple(secrets)
        self._clock = clock
        self._number = 0
        # Of this process's clock, which may be set back: a message that was too old must not become valid again.
        self._latest = 0.0
        # The last number of each sender, and until when a message of it may still be valid.
        self._heard: dict[str, tuple[int, float]] = dict(_past)

    def sign(self, target: str, sender: str, command: Message) -> Message:
        """The command with what proves where it comes from."""
        self._number += 1
        signed = {**command, "sender": sender, "sequence": self._number, "time": round(self._clock(), 3)}
        return {**signed, _SIGNATURE: _digest(self._secrets[0], target, signed)}

    def reject(self, target: str, message: Message) -> str:
        """Why a message is not to be obeyed; '' if it is. It is not accepted a second time."""
        signed = dict(message)
        signature = signed.pop(_SIGNATURE, None)
        sender, sequence, sent = signed.get("sender"), signed.get("sequence"), signed.get("time")
        if not (
            isinstance(signature, str)
            and isinstance(sender, str)
            and type(sequence) is int
            and isinstance(sent, (int, float))
            and abs(sent) < _FAR_FUTURE
        ):
            return "it is not signed"
        if not self._is_genuine(signature, target, signed):
            return "its signature is by another secret, or for another process"
        now = self._latest = max(self._latest, self._clock())
        if not abs(now - sent) <= WINDOW_SECONDS:
            return f"it is {now - sent:.0f} s old; expected {WINDOW_SECONDS:g} s at most: do the clocks differ?"
        last, until = self._heard.get(sender, (0, 0.0))
        if sequence <= last:
            return "it was received before"
        self._heard[sender] = (sequence, max(until, sent + WINDOW_SECONDS))
        if len(self._heard) > _MOST_SENDERS:
            self._heard = {name: heard for name, heard in self._heard.items() if heard[1] >= now}
        return ""

    def close(self) -> None:
        """What was received is not accepted by a successor in this process either."""
        now = self._clock()
        for heard in (_past, self._heard):
            for sender, (sequence, until) in tuple(heard.items()):
                if until < now:
                    _past.pop(sender, None)
                elif sequence >= _past.get(sender, (0, 0.0))[0]:
                    _past[sender] = (sequence, until)

    def _is_genuine(self, signature: str, target: str, signed: Message) -> bool:
        try:
            given = signature.encode("ascii")
            digests = [_digest(secret, target, signed).encode() for secret in self._secrets]
        except (ValueError, TypeError, RecursionError):
            return False
        # All of them, so that the time does not tell which one fits.
        return sum(hmac.compare_digest(digest, given) for digest in digests) > 0


def check_secrets(secret: Secret | Sequence[Secret] | None) -> tuple[bytes, ...]:
    """The secrets that a user has given: one, or several of which the first signs. Raises ConfigError."""
    if secret is None:
        return ()
    given: Sequence[Any] = (secret,) if isinstance(secret, (str, bytes)) else secret
    if not isinstance(given, (list, tuple)) or not given or not all(isinstance(one, (str, bytes)) for one in given):
        # Not what was found: it is secret.
        raise ConfigError("BroadcastMiddleware: secret: expected text or bytes, or a list of these")
    secrets = tuple(one.encode("utf-8", "surrogatepass") if isinstance(one, str) else one for one in given)
    if min(map(len, secrets)) < _LEAST_BYTES:
        raise ConfigError(f"BroadcastMiddleware: secret: expected at least {_LEAST_BYTES} bytes, got fewer")
    return secrets


def _digest(secret: bytes, target: str, signed: Message) -> str:
    # JSON of a list of pairs in a fixed order: no two messages have the same bytes.
    fields = json.dumps([_PURPOSE, target, sorted(signed.items())], allow_nan=False, separators=(",", ":"))
    return hmac.digest(secret, fields.encode("ascii"), "sha256").hex()
