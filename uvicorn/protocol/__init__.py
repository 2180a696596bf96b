"""Sans-IO: bytes in, calls out. Nothing here knows about sockets, loops, clocks or randomness."""
