"""The check of a loss that only the client can evaluate: from the wire to the numerics and back."""
