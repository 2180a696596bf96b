"""Placeholders for WebSocket classes of the public `uvicorn` release. Programs can import them, but not call them."""
