"""A gradient judged by losses that the client evaluates."""
