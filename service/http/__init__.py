"""The HTTP service in Flask, without mathematics: one blueprint a file."""
