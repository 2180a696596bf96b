"""Protocol classes of the public release, for imports only; the functions of `utils` work."""
