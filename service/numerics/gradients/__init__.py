"""Three gradients of the loss: analytic, by PyTorch, and by finite differences.

They share no derivative code, and none imports another.
"""
