"""Lifespan classes of the public release, which can be imported, but not called."""
