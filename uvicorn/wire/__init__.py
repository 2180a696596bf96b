"""Protocols, sans-IO: bytes in, calls out. No sockets, no event loop, no clock."""
