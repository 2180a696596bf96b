"""Exchanges (HTTP) and sessions (WebSocket), which connect servers and applications."""
