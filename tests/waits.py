"""How long tests wait for other threads and processes."""

from typing import Final

#: Ends a test that has failed; no test may depend on it.
LONGEST_WAIT: Final = 30.0
