"""Protocol classes of the public release, by name; `utils` works."""
