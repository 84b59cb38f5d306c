"""The runner: one process a machine that computes the jobs of the service."""
