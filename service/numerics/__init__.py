"""What computes: NumPy, and no knowledge of HTTP or of the wire."""
