"""Protocol classes of the public release. They can be imported, but not called. The functions of `utils` work."""
