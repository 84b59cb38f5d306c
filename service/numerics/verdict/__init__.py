"""The verdicts on gradients: references, comparisons, and outcomes."""
