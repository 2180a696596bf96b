"""WebSocket classes under the public release's names. Programs can import these classes, but not call them."""
