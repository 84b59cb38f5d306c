"""The parts of HTTP around every route.

Keys, limits, deadlines, the log of requests.
"""
