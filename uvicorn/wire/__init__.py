"""Sans-IO protocols. They use no sockets, no event loop and no clock."""
