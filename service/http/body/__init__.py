"""Bodies of requests, from bytes to parsed JSON."""
