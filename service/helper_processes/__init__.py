"""Processes that compute parts of large checks beside a worker.

A worker starts them when a large check needs them, keeps them for the next one, and ends them when they are idle for
long. They are new processes rather than forks: a fork of a worker would copy its threads' locks, and torch with them.
"""
