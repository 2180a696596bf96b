"""Lifespan classes of the public release, for imports only."""
