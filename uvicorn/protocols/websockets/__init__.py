"""Placeholders for WebSocket classes. Programs can import them, but not call them."""
