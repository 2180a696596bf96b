"""Placeholders for lifespan classes. Programs can import them, but not call them."""
