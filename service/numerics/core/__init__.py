"""The base of the numerics: batches, precisions, differences, and pauses."""
