"""Signs control messages. A signature works once, and expires after a minute."""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias, final

from uvicorn.errors import ConfigError
from uvicorn.types import Message

Secret: TypeAlias = str | bytes

#: 60 s: the difference between the clocks of a site's machines, plus the time in transit.
WINDOW_SECONDS: Final = 60.0
# 16 random bytes have 128 bits of entropy.
_MIN_BYTES: Final = 16
# The limit of stored senders. Only a process with the secret can add one.
_MAX_SENDERS: Final = 100_000

_FAR_FUTURE: Final = 1e12

_PURPOSE: Final = "uvicorn control message 1"
_SIGNATURE: Final = "signature"

# The last numbers that closed signers of this process have received.
_past: Final[dict[str, tuple[int, float]]] = {}


@final
class Signer:
    """Signs with the first secret, and accepts signatures made with any of `secrets`."""

    def __init__(self, secrets: Sequence[bytes], clock: Callable[[], float] = time.time) -> None:
        self._secrets = tuple(secrets)
        self._clock = clock
        self._number = 0
        # The latest time of the clock: after the clock is set back, expired messages stay invalid.
        self._latest = 0.0
        # The last number of each sender, and the time at which its messages expire.
        self._received: dict[str, tuple[int, float]] = dict(_past)

    def sign(self, target: str, sender: str, command: Message) -> Message:
        """Return the command with a signature that is valid for `target` only."""
        self._number += 1
        signed = {**command, "sender": sender, "sequence": self._number, "time": round(self._clock(), 3)}
        return {**signed, _SIGNATURE: _digest(self._secrets[0], target, signed)}

    def reject(self, target: str, message: Message) -> str:
        """Return '' if `message` is valid, else the reason for the rejection."""
        signed = dict(message)
        signature = signed.pop(_SIGNATURE, None)
        sender, sequence, sent = signed.get("sender"), signed.get("sequence"), signed.get("time")
        if not isinstance(signature, str) or not isinstance(sender, str) or type(sequence) is not int:
            return "it is not signed"
        if not isinstance(sent, (int, float)) or not abs(sent) < _FAR_FUTURE:
            return "it is not signed"
        if not self._is_genuine(signature, target, signed):
            return "its signature was made with another secret, or for another process"
        now = self._latest = max(self._latest, self._clock())
        if not abs(now - sent) <= WINDOW_SECONDS:
            return f"it is {now - sent:.0f} s old; expected {WINDOW_SECONDS:g} s at most: do the clocks differ?"
        last, until = self._received.get(sender, (0, 0.0))
        if sequence <= last:
            return "it was received before"
        self._received[sender] = (sequence, max(until, sent + WINDOW_SECONDS))
        if len(self._received) > _MAX_SENDERS:
            self._received = {name: last for name, last in self._received.items() if last[1] >= now}
        return ""

    def close(self) -> None:
        now = self._clock()
        for received in (_past, self._received):
            for sender, (sequence, until) in tuple(received.items()):
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
        # Compare all digests, so that the duration does not show which secret matches.
        return sum(hmac.compare_digest(digest, given) for digest in digests) > 0


def check_secrets(secret: Secret | Sequence[Secret] | None) -> tuple[bytes, ...]:
    """Return the secrets of the option `secret=`. Raises ConfigError."""
    if secret is None:
        return ()
    given: Sequence[Any] = (secret,) if isinstance(secret, (str, bytes)) else secret
    if not isinstance(given, (list, tuple)) or not given or not all(isinstance(one, (str, bytes)) for one in given):
        raise ConfigError("BroadcastMiddleware: secret: expected text or bytes, or a list of such values")
    secrets = tuple(one.encode("utf-8", "surrogatepass") if isinstance(one, str) else one for one in given)
    if min(map(len, secrets)) < _MIN_BYTES:
        raise ConfigError(f"BroadcastMiddleware: secret: expected at least {_MIN_BYTES} bytes, got fewer")
    return secrets


def _digest(secret: bytes, target: str, signed: Message) -> str:
    # Sorted pairs: equal messages have equal bytes, and different messages have different bytes.
    fields = json.dumps([_PURPOSE, target, sorted(signed.items())], allow_nan=False, separators=(",", ":"))
    return hmac.digest(secret, fields.encode("ascii"), "sha256").hex()
