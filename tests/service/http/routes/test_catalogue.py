import pytest

from service.app import create_app
from service.numerics.model.presets import PRESETS
from service.numerics.ops import OP_REGISTRY

CLIENT = create_app().test_client()


def test_every_op_is_listed_with_its_derivation():
    ops = CLIENT.get("/v1/ops").json["ops"]
    assert [op["name"] for op in ops] == sorted(OP_REGISTRY)
    for op in ops:
        assert set(op) == {"name", "inputs", "outputs", "attributes", "inner_casts", "backward", "bugs"}
        has_gradient = any(output["of"] == "float" for output in op["outputs"])
        assert ("dL/d" if has_gradient else "no gradient") in op["backward"]


@pytest.mark.parametrize("number", range(len(PRESETS)))
def test_every_preset_can_be_posted_as_it_is_and_passes(number):
    model = CLIENT.get("/v1/models").json["models"][number]
    assert set(model) == {"name", "description", "request", "text"}
    report = CLIENT.post("/v1/check", json=model["request"]).json
    assert report["outcome"] == "pass", report["summary"]
    assert report["model"]["nodes"]
    again = CLIENT.post("/v1/check", json=model["request"] | {"model": model["text"]}).json
    assert again["gradients"] == report["gradients"]
