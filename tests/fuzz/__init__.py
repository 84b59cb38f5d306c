"""Requests that no client would send, and what is held of every answer to them."""

import os

REQUEST_COUNT = int(os.environ.get("FUZZ_REQUESTS", "1500"))
"""How many the three parts send together at least; `make fuzz` sends more."""

SCHEMA_REQUEST_COUNT = REQUEST_COUNT // 10
MUTATED_REQUEST_COUNT = REQUEST_COUNT // 3
RAW_REQUEST_COUNT = REQUEST_COUNT - SCHEMA_REQUEST_COUNT - MUTATED_REQUEST_COUNT

IS_SYSTEMATIC = REQUEST_COUNT >= 5000
"""Whether schemathesis also goes through every keyword of the document, which by itself takes some 10,000 requests."""
