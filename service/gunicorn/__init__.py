"""The parts that run under gunicorn; README.md names the private hooks in use."""
