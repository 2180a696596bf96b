"""`--debug` responds with werkzeug's interactive debugger instead of a 500, for WSGI applications."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from uvicorn.errors import ConfigError
from uvicorn.server.listener import Address

logger = logging.getLogger("uvicorn.error")

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def debug(interface: Any, addresses: Sequence[Address], workers: int) -> None:
    """Wrap the WSGI applications of `interface` in the debugger. For other kinds, log that there is no debugger.

    Raises ConfigError unless one process serves on loopback addresses, because a user with the PIN can run code.
    """
    parts = [part for part in interface.parts if part.name == "wsgi"]
    if not parts:
        logger.info(
            "debug has no effect: the debugger is for WSGI applications, not for the interface %s", interface.name
        )
        return
    elsewhere = [str(address) for address in addresses if not (address.is_tcp and address.host in _LOOPBACK)]
    if elsewhere or workers > 1:
        found = f"{workers} workers" if workers > 1 else ", ".join(elsewhere)
        raise ConfigError(
            f"debug: expected one worker that listens on {' or '.join(_LOOPBACK)}, because users of the debugger can "
            f"run code; got {found}"
        )
    from werkzeug.debug import DebuggedApplication

    debuggers = [DebuggedApplication(part.app, evalex=True) for part in parts]
    pin = debuggers[0].pin
    for part, debugger in zip(parts, debuggers, strict=True):
        # Computed before the PIN is set, because werkzeug computes both together.
        _ = debugger.pin_cookie_name
        # Werkzeug's own differs from one application to the next.
        debugger.pin = pin
        vars(debugger).update({name: getattr(part.app, name, None) for name in ("startup", "shutdown")})
        part.app = debugger
    logger.warning("debug: exceptions are shown in the browser; to run code there, enter the PIN %s", pin)
