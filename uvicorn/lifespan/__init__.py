"""Lifespan classes of the public release. They can be imported, but not called."""
