"""How many processes serve the application side by side: what one keeps in memory is a share of it."""

from __future__ import annotations

import os
from typing import Final

#: How many processes serve the application; 0 until a server of ours has set it.
count = 0

# Where other servers take the number of their processes from.
_HOW_MANY: Final = "WEB_CONCURRENCY"


def are_several() -> bool:
    """Whether other processes serve the application beside this one, as far as it is known here."""
    if count:
        return count > 1
    said = os.environ.get(_HOW_MANY, "")
    return said.isdigit() and int(said) > 1
