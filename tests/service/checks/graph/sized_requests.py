"""Requests of any size, and what they are refused with."""

import base64

import numpy as np
import pytest

from schemas.problem_details import InvalidRequestError
from service.checks.common.limits import Limits
from service.checks.graph import model_language
from service.checks.graph.cost_estimate import estimate_check
from service.checks.graph.problem import build_problem


def make_problem(body):
    return build_problem(model_language.parse_check_request(body))


def get_refusal(work, *arguments):
    with pytest.raises(InvalidRequestError) as error:
        work(*arguments)
    return {entry["pointer"]: entry["detail"] for entry in error.value.errors}


def draw_tensor(*shape, seed=0):
    data = np.random.default_rng([seed, *shape]).normal(size=shape) / 8
    return {"datatype": "FP64", "shape": list(shape), "b64": base64.b64encode(data.tobytes()).decode()}


def make_entangled_request(rows, columns, **fields):
    """A model in which every element of `w` and `v` moves the one term of the loss."""
    nodes = [
        {"name": "t", "op": "tanh", "inputs": ["w"]},
        {"name": "u", "op": "tanh", "inputs": ["v"]},
        {"name": "m", "op": "mul", "inputs": ["t", "u"]},
        {"name": "loss", "op": "logsumexp", "inputs": ["m"], "dim": [0, 1]},
    ]
    weights = {"w": draw_tensor(rows, columns), "v": draw_tensor(columns)}
    return {"tensors": {}, "weights": weights, "model": {"nodes": nodes}, "include": [], "encoding": "b64"} | fields


def estimate_request(body):
    return estimate_check(make_problem(body), Limits())[1]
