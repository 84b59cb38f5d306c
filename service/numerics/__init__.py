"""All computation, with NumPy and without knowledge of HTTP or the wire."""
