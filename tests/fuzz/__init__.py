"""Requests that no client would send, and what is held of every answer to them."""

import os

REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "1500"))
"""How many the three parts send together at least; `make fuzz` sends more."""

DESCRIBED = REQUESTS // 10
MUTANTS = REQUESTS // 3
RAW = REQUESTS - DESCRIBED - MUTANTS

SYSTEMATIC = REQUESTS >= 5000
"""Whether schemathesis also goes through every keyword of the document, which by itself takes some 10,000 requests."""
