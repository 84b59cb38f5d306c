"""Three routes to a gradient. They share no derivative code, and none imports another."""
