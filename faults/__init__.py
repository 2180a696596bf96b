"""The cases of `scripts/faults`, by what they need: memory, pace, descriptors, stopping, parsing."""
