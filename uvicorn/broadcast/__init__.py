"""Messages to groups of connections, across processes."""
