import pytest
import torch

from schemas.torch_names import suggest_op, suggest_parameter
from service.numerics.ops import OP_REGISTRY

SUGGESTIONS = {
    "GELU": "gelu", "nn.GELU": "gelu", "torch.nn.LeakyReLU": "leaky_relu", "torch.tanh": "tanh", "F.softmax": "softmax",
    "x.view": "reshape", "view": "reshape", "Conv2d": "conv2d", "nn.ConvTranspose2d": "conv_transpose2d",
    "BatchNorm1d": "batch_norm", "MaxPool2d": "max_pool2d", "CrossEntropyLoss": "cross_entropy", "MSELoss": "mse_loss",
    "BCELoss": "binary_cross_entropy", "nn.BCEWithLogitsLoss": "binary_cross_entropy_with_logits",
    "KLDivLoss": "kl_div", "torch.clamp_min": "clamp", "clamp_max": "clamp", "masked_select": "take",
    "CosineEmbeddingLoss": "cosine_embedding_loss", "concatenate": "cat", "relu_": "relu", "multiply": "mul",
    "swapaxes": "transpose", "log_softmax": "log_softmax",
    "F.scaled_dot_product_attention": "scaled_dot_product_attention",
}  # fmt: skip


@pytest.mark.parametrize("name", SUGGESTIONS)
def test_name_of_pytorch_suggests_the_op(name):
    assert suggest_op(name, OP_REGISTRY) == SUGGESTIONS[name]


@pytest.mark.parametrize("name", ["", ".", "nn.", "Transformer", "foo", "x" * 10**6])
def test_other_name_suggests_nothing(name):
    assert suggest_op(name, OP_REGISTRY) is None


def test_activations_of_pytorch_are_suggested_by_their_modules():
    modules = {name for name in dir(torch.nn.modules.activation) if name[0].isupper()}
    suggested = {suggest_op(name, OP_REGISTRY) for name in modules} - {None}
    assert suggested >= {"relu", "gelu", "elu", "silu", "sigmoid", "tanh", "softplus", "softmax", "log_softmax"}


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("axis", ["input", "dim"], "dim"),
        ("axis", ["input", "dims"], "dims"),
        ("axes", ["dims"], "dims"),
        ("keepdims", ["dim", "keepdim"], "keepdim"),
        ("unbiased", ["correction"], "correction"),
        ("axis", ["input"], None),
        ("colour", ["dim"], None),
    ],
)
def test_parameter_of_numpy_suggests_that_of_pytorch(name, known, expected):
    assert suggest_parameter(name, known) == expected
