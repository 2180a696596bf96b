"""With `--debug`, werkzeug's interactive debugger shows the exceptions of a WSGI application."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from uvicorn.server.listener import Address, check_for_debug

logger = logging.getLogger("uvicorn.error")


def debug(interface: Any, addresses: Sequence[Address], workers: int) -> None:
    """Wrap WSGI applications in werkzeug's debugger. Raises ConfigError."""
    parts = [part for part in interface.parts if part.name == "wsgi"]
    if not parts:
        logger.info("debug has no effect: the debugger is for WSGI applications, not for interface %s", interface.name)
        return
    check_for_debug(addresses, workers=workers)
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
    # The server checks the sockets too, because a program may pass others than the configured addresses.
    interface.has_debugger = True
    if pin is None:
        logger.warning(
            "debug: exceptions are shown in the browser; every user of this machine can run code in the "
            "server, because WERKZEUG_DEBUG_PIN is off"
        )
    else:
        logger.warning("debug: exceptions are shown in the browser; to run code in the server, enter the PIN %s", pin)
