"""False alarms and misses: correct gradients, computed elsewhere in many ways, and wrong ones, judged by the service.

Nothing here that computes a gradient has anything of the service: `by_torch` writes the three models as one would in
PyTorch, `by_hand` differentiates them on paper and sums in other orders. The same serve the tests, on fixed seeds, and
`benchmarks/false_alarms.py`, on fresh ones.
"""
