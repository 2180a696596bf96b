"""Protocol classes of the public release, for imports only. The functions of `utils` work."""
