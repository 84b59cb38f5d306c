"""The parts of `POST /v1/check`: the question, the judge, the answer. `service.check` joins them."""
