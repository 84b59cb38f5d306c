"""Requests of any size, and what they are refused with."""

import base64

import numpy as np
import pytest

from schemas.problem import InvalidRequestError
from service.checking import language
from service.checking.estimate import estimated
from service.checking.question import Limits, posed


def problem_of(body):
    return posed(language.parsed(body))


def refused(work, *arguments):
    with pytest.raises(InvalidRequestError) as error:
        work(*arguments)
    return {each["pointer"]: each["detail"] for each in error.value.errors}


def tensor(*shape, seed=0):
    data = np.random.default_rng([seed, *shape]).normal(size=shape) / 8
    return {"datatype": "FP64", "shape": list(shape), "b64": base64.b64encode(data.tobytes()).decode()}


def entangled(rows, columns, **fields):
    """A model in which every element of `w` and `v` moves the one term of the loss."""
    nodes = [
        {"name": "t", "op": "tanh", "inputs": ["w"]},
        {"name": "u", "op": "tanh", "inputs": ["v"]},
        {"name": "m", "op": "mul", "inputs": ["t", "u"]},
        {"name": "loss", "op": "logsumexp", "inputs": ["m"], "dim": [0, 1]},
    ]
    weights = {"w": tensor(rows, columns), "v": tensor(columns)}
    return {"tensors": {}, "weights": weights, "model": {"nodes": nodes}, "include": [], "encoding": "b64"} | fields


def estimate_of(body):
    return estimated(problem_of(body), Limits())[1]
