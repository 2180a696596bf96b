"""Placeholders for HTTP classes. Programs can import them, but not call them."""
