"""Checks: from a request in JSON to a report, without Flask."""
