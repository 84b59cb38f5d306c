"""Responses.

JSON and text, streams, problem details, headers and the deadline of sending.
"""
