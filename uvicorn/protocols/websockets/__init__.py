"""Names of WebSocket classes that other servers have. They can be imported, but not called."""
