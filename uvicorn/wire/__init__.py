"""Sans-IO protocols, which use no sockets, no event loop and no clock."""
