"""Requests whose fields beside their tensors were valid before.

Whoever checks one model again and again sends the same nodes each time, and other numbers. Parts that follow from the
fields beside the tensors are worked out once, and kept by their content.
"""

import marshal
from typing import Any, TypeVar, cast

import orjson
from pydantic import ValidationError

from schemas.check import TENSOR_FIELDS, CheckRequest, CheckTensors
from service.numerics.core.bounded_cache import BoundedCache

_MAX_KEPT_REQUESTS = 8
_MAX_KEY_BYTES, _MAX_NODES = 2**16, 512
"""Bytes of the fields of a request that is kept, and nodes of its model."""
_FORMAT_WITHOUT_REFERENCES = 0
"""Format of `marshal` in which equal values have equal bytes."""

RequestT = TypeVar("RequestT", bound=CheckRequest[Any])

_VALID_REQUESTS: BoundedCache[CheckRequest[Any]] = BoundedCache(_MAX_KEPT_REQUESTS)


def make_fields_key(body: object) -> bytes | None:
    """Return the content of a request's fields beside its tensors; None for a request that is not kept.

    Values of other types have other bytes: 1 is no 1.0, and no true. Types that are not of JSON, and subclasses of
    those that are, such as the nodes of a text, have none: `orjson` refuses arrays, which `marshal` takes for bytes,
    and `marshal` keeps NaN apart, which `orjson` takes for null.
    """
    if not isinstance(body, dict):
        return None
    fields = {name: value for name, value in cast("dict[Any, Any]", body).items() if name not in TENSOR_FIELDS}
    model = fields.get("model")
    nodes = cast("dict[str, Any]", model).get("nodes") if isinstance(model, dict) else model
    if isinstance(nodes, list) and len(cast("list[Any]", nodes)) > _MAX_NODES:
        return None
    try:
        orjson.dumps(fields, option=orjson.OPT_PASSTHROUGH_SUBCLASS)
        key = marshal.dumps(fields, _FORMAT_WITHOUT_REFERENCES)
    except (TypeError, ValueError):
        return None
    return key if len(key) <= _MAX_KEY_BYTES else None


def find_valid_request(body: dict[str, Any], key: bytes | None, schema: type[RequestT]) -> RequestT | None:
    """Return the request of a body whose fields are kept; None if they are not, or a tensor is invalid.

    Parameters
    ----------
    body
        The request, as parsed from JSON.
    key
        Key of its fields, None for none.
    schema
        Type of the request.
    """
    if key is None:
        return None
    kept = _VALID_REQUESTS.find((schema, key))
    if kept is None:
        return None
    try:
        tensors = CheckTensors.model_validate({name: body[name] for name in TENSOR_FIELDS if name in body})
    except ValidationError:
        return None
    given = {name: getattr(tensors, name) for name in TENSOR_FIELDS if name in body}
    return cast("RequestT", kept.model_copy(update=given))


def keep_valid_request(request: CheckRequest[Any], key: bytes | None) -> None:
    """Keep a request without its tensors."""
    if key is None:
        return
    kept = request.model_copy(update={"tensors": {}, "weights": {}, "candidate": None, "repeats": None})
    kept.model_fields_set.difference_update(TENSOR_FIELDS)
    _VALID_REQUESTS.put((type(request), key), kept)
