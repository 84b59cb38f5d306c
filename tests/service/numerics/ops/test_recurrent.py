from typing import Any

import numpy as np
import pytest
import torch

from service.checks.graph.check import check
from tests.matrix_requests import get_refusal

LAYERS: dict[str, tuple[Any, int]] = {
    "lstm": (torch.nn.LSTM, 2),
    "gru": (torch.nn.GRU, 1),
    "rnn_tanh": (torch.nn.RNN, 1),
    "rnn_relu": (lambda *sizes, **fields: torch.nn.RNN(*sizes, nonlinearity="relu", **fields), 1),
}


def make_case(name: str, output: str = "output", length: int = 3, **fields: Any) -> tuple[dict[str, Any], Any]:
    """A request with the module's own gradients as the candidate."""
    torch.manual_seed(0)
    make_layer, state_count = LAYERS[name]
    module = make_layer(2, 3, dtype=torch.float64, **fields)
    layers = module.num_layers * (2 if module.bidirectional else 1)
    shape = (2, length, 2) if module.batch_first else (length, 2, 2)
    leaves = {"x": torch.randn(shape, dtype=torch.float64, requires_grad=True)}
    leaves |= {
        f"s{i}": torch.randn((layers, 2, 3), dtype=torch.float64, requires_grad=True) for i in range(state_count)
    }
    states = tuple(leaves[f"s{i}"] for i in range(state_count))
    sequence, finals = module(leaves["x"], states if state_count > 1 else states[0])
    finals = finals if state_count > 1 else (finals,)
    result = {"output": sequence, "h_n": finals[0], "c_n": finals[-1]}[output]
    result.square().sum().backward()
    leaves |= dict(module.named_parameters())
    node = {
        "name": "y",
        "op": name,
        "inputs": list(leaves),
        "output": output,
        "num_layers": module.num_layers,
        "bidirectional": module.bidirectional,
        "batch_first": module.batch_first,
        "has_biases": module.bias,
    }
    nodes = [node, {"name": "s", "op": "square", "inputs": ["y"]}, {"name": "loss", "op": "sum", "inputs": ["s"]}]
    request = {
        "tensors": {},
        "weights": {leaf: value.tolist() for leaf, value in leaves.items()},
        "model": {"nodes": nodes},
    }
    return request, {leaf: value.grad.numpy() for leaf, value in leaves.items()}


@pytest.mark.parametrize("name", LAYERS)
def test_module_of_pytorch_passes_and_a_wrong_weight_fails(name: str) -> None:
    request, gradients = make_case(name)
    candidate = {leaf: gradient.tolist() for leaf, gradient in gradients.items()}
    assert check(request | {"candidate": candidate})["outcome"] == "pass"
    candidate["weight_hh_l0"] = (1.0001 * gradients["weight_hh_l0"]).tolist()
    answer: Any = check(request | {"candidate": candidate})
    failed = {leaf for leaf, verdict in answer["verdicts"].items() if verdict["outcome"] == "fail"}
    assert failed == {"weight_hh_l0"}


@pytest.mark.parametrize(
    ("name", "output", "fields"),
    [
        ("lstm", "c_n", {"bidirectional": True}),
        ("lstm", "h_n", {"num_layers": 2, "bias": False}),
        ("gru", "output", {"num_layers": 2, "bidirectional": True, "batch_first": True}),
    ],
)
def test_layers_directions_and_outputs_are_those_of_pytorch(name: str, output: str, fields: dict[str, Any]) -> None:
    request, gradients = make_case(name, output, length=2, **fields)
    candidate = {leaf: gradient.tolist() for leaf, gradient in gradients.items()}
    assert check(request | {"candidate": candidate})["outcome"] == "pass"


def test_too_many_steps_are_refused() -> None:
    request, _ = make_case("rnn_tanh", length=257)
    assert "256 steps" in get_refusal(request)


def test_missing_weights_are_refused_by_name() -> None:
    request, _ = make_case("gru")
    request["model"]["nodes"][0]["inputs"].pop()
    del request["weights"]["bias_hh_l0"]
    assert "w_ih, w_hh, b_ih, b_hh" in get_refusal(request)


def test_shape_of_a_weight_is_refused() -> None:
    request, _ = make_case("lstm")
    request["weights"]["weight_hh_l0"] = np.zeros((3, 3)).tolist()
    assert "weights [[12, 2], [12, 3], [12], [12]]" in get_refusal(request)
