"""Exchanges (HTTP) and sessions (WebSocket), which connect hosts and applications."""
