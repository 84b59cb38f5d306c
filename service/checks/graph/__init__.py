"""The parts of `POST /v1/check`, which `service.checks.graph.check` joins."""
