"""Placeholders for lifespan classes of the public `uvicorn` release. Programs can import them, but not call them."""
