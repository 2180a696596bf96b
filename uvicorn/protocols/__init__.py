"""Placeholders for protocol classes of the public `uvicorn` release. The functions in `utils` work."""
