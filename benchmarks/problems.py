"""What is differentiated: each problem as a request of the service, and as the functions that its peers take."""

from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse

from benchmarks import peer_functions
from service.numerics.model.presets import PRESETS

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class BenchmarkProblem:
    """A loss, and the tensors it is differentiated by.

    Attributes
    ----------
    name, description
        For people.
    request
        Of `service.checks.graph.check.check`.
    inputs
        What to differentiate by, in the order in which the functions take it.
    terms
        In NumPy: the inputs to the vector of which the loss is the sum.
    by_torch, by_jax
        The inputs to the loss.
    structure
        Which term feels which scalar, (terms, scalars), written by hand; None where every one feels all.
    """

    name: str
    description: str
    request: Mapping[str, Any]
    inputs: Mapping[str, Array]
    terms: Callable[..., Array]
    torch_loss: Callable[..., Any]
    jax_loss: Callable[..., Any]
    make_sparsity: Callable[[], scipy.sparse.csr_array] | None = None

    @property
    def flat_inputs(self) -> Array:
        """All inputs in one vector."""
        return np.concatenate([array.ravel() for array in self.inputs.values()])

    def split_inputs(self, flat: Array) -> list[Array]:
        """Take the inputs out of the vector again."""
        ends = np.cumsum([array.size for array in self.inputs.values()])[:-1]
        parts = np.split(flat, ends)
        return [part.reshape(array.shape) for part, array in zip(parts, self.inputs.values(), strict=True)]

    def compute_terms(self, flat: Array) -> Array:
        """Terms of the loss at a vector."""
        return self.terms(*self.split_inputs(flat))

    def compute_loss(self, flat: Array) -> float:
        """Loss at a vector."""
        return float(self.compute_terms(flat).sum())


def encode_array(array: Array) -> dict[str, Any]:
    """A tensor as a client with many numbers sends it."""
    datatype = "INT64" if array.dtype.kind == "i" else "FP64"
    return {"datatype": datatype, "shape": list(array.shape), "b64": b64encode(array.tobytes()).decode()}


def _build_request(tensors: Mapping[str, Array], weights: Mapping[str, Array], **fields: Any) -> dict[str, Any]:
    return {
        "tensors": {name: encode_array(tensor) for name, tensor in tensors.items()},
        "weights": {name: encode_array(weight) for name, weight in weights.items()},
        "encoding": "b64",
        **fields,
    }


def make_convolution(name: str, size: int, kernel: int) -> BenchmarkProblem:
    """The reference model, of any size."""
    generator = np.random.default_rng([size, kernel])
    out = size - kernel + 1
    x = generator.normal(size=(size, size))
    w1 = generator.normal(size=(kernel, kernel)) / kernel
    w2 = generator.normal(size=out * out)
    y = generator.uniform(size=out * out)
    return _build_convolution(name, x, w1, w2, y)


def make_reference() -> BenchmarkProblem:
    """The reference example itself."""
    preset = PRESETS["conv_tanh_scale_sigmoid"]
    arrays = {name: np.array(values, dtype=float) for name, values in {**preset.tensors, **preset.weights}.items()}
    return _build_convolution("S0", arrays["x"], arrays["w1"], arrays["w2"], arrays["y"])


def _build_convolution(name: str, x: Array, w1: Array, w2: Array, y: Array) -> BenchmarkProblem:
    return BenchmarkProblem(
        name,
        f"the reference model, {len(x)}x{len(x)} and {len(w1)}x{len(w1)}, with respect to x, w1 and w2",
        _build_request({"x": x, "y": y}, {"w1": w1, "w2": w2}, with_respect_to=["x", "w1", "w2"]),
        {"x": x, "w1": w1, "w2": w2},
        peer_functions.make_convolution_terms(y),
        peer_functions.make_torch_convolution(y),
        peer_functions.make_jax_convolution(y),
        lambda: _build_sparsity(len(x), len(w1)),
    )


def _build_sparsity(size: int, kernel: int) -> scipy.sparse.csr_array:
    """Term p = (i, j) feels x[i + a, j + b] for all a, b of the kernel, all of w1, and w2[p]."""
    out = size - kernel + 1
    i, j, a, b = np.ogrid[:out, :out, :kernel, :kernel]
    of_x = ((i + a) * size + j + b).reshape(out * out, -1)
    of_w1 = np.broadcast_to(size * size + np.arange(kernel * kernel), of_x.shape)
    of_w2 = size * size + kernel * kernel + np.arange(out * out)[:, None]
    columns = np.concatenate([of_x, of_w1, of_w2], axis=1)
    starts = np.arange(len(columns) + 1) * columns.shape[1]
    shape = (len(columns), size * size + kernel * kernel + out * out)
    return scipy.sparse.csr_array((np.ones(columns.size), columns.ravel(), starts), shape=shape)


def make_perceptron() -> BenchmarkProblem:
    """A classifier of 32 samples of 64 features: one hidden layer of 64 units, 10 classes."""
    generator = np.random.default_rng(0)
    x, label = generator.normal(size=(32, 64)), generator.integers(0, 10, size=32)
    weights = {
        "w1": generator.normal(size=(64, 64)) / 8,
        "b1": generator.normal(size=64) / 10,
        "w2": generator.normal(size=(10, 64)) / 8,
        "b2": generator.normal(size=10) / 10,
    }
    return BenchmarkProblem(
        "MLP",
        "32x64, linear 64, tanh, linear 10, mean cross-entropy, with respect to weights and biases",
        _build_request({"x": x, "label": label}, weights, model="mlp_classifier"),
        weights,
        peer_functions.make_perceptron_terms(x, label),
        peer_functions.make_torch_perceptron(x, label),
        peer_functions.make_jax_perceptron(x, label),
    )


PROBLEMS: Mapping[str, Callable[[], BenchmarkProblem]] = {
    "S0": make_reference,
    "S1": lambda: make_convolution("S1", 16, 3),
    "S2": lambda: make_convolution("S2", 64, 5),
    "S3": lambda: make_convolution("S3", 256, 7),
    "MLP": make_perceptron,
}
