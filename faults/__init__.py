"""The cases of `scripts/faults`, by subject: memory, pace, descriptors, stopping, parsing."""
