"""How many processes serve the application side by side, as far as this one has been told.

What an application keeps in memory is then a share of it only; broadcast must not keep to that.
"""

from __future__ import annotations

count = 1
