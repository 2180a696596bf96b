"""What stands between hosts and applications: exchanges (HTTP) and sessions (WebSocket)."""
