"""The parts of `POST /v1/check`: the question, the judge, the answer. `service.checks.graph.check` joins them."""
