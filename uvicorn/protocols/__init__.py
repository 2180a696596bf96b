"""Placeholders for the protocol classes of the public `uvicorn` release. The functions in `utils` work."""
