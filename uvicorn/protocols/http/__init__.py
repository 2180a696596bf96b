"""HTTP protocol classes of the public release, by name only."""
