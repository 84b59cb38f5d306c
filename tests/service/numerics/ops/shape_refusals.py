"""The refusal of shapes, for the tests of the ops."""

from typing import Any

import pytest

from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.op import ShapeError


def get_refusal(name: str, attributes: dict[str, Any], *shapes: Any) -> str:
    """Return the text with which an op refuses shapes."""
    with pytest.raises(ShapeError) as error:
        OP_REGISTRY[name](**attributes).infer_output_shape(*shapes)
    return str(error.value)
