"""One table of applications of every kind: `Router`, `Route`, `Mount`."""
