"""What crosses the wire: requests, answers, problems. Knows no service, no Flask, no torch."""
