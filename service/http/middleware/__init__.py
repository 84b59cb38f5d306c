"""The parts of HTTP around every route: keys, limits, deadlines, the log of requests."""
