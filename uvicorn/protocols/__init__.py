"""Protocol classes of the public release, which cannot be called. The functions in `utils` can be called."""
