"""Answers as JSON, as text, and as tensors."""

from collections.abc import Mapping
from typing import Any

import orjson
from flask import Response

from schemas.binary import SAFETENSORS, encode, listed, packed
from schemas.report import CheckReport
from schemas.tensor import Tensor
from service.rendering import markdown, text

RENDERINGS = {"text/plain": text, "text/markdown": markdown}
"""A report for reading, by media type."""


def vary_by_accept(response: Response) -> Response:
    """Tell caches that the answer depends on what is accepted; for blueprints that have several forms."""
    response.vary.add("Accept")
    return response


def json_answer(document: Mapping[str, Any], status: int = 200) -> Response:
    """Answer with a document that may hold NumPy arrays; it must be free of NaN, which JSON cannot spell."""
    return Response(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY), status, mimetype="application/json")


def text_answer(text: str, media_type: str) -> Response:
    """Answer with text, in UTF-8."""
    return Response(text, mimetype=media_type)


def binary_answer(report: CheckReport, text: str | None = None) -> Response:
    """Answer with a report of which the tensors are "binary", and with what it is for reading, if that is given."""
    return Response(encode(report, text), mimetype=SAFETENSORS)


def packed_answer(tensors: Mapping[str, Tensor], rest: Mapping[str, Any]) -> Response:
    """Answer with tensors, listed in their order, and all else in the metadata."""
    return Response(listed(packed(tensors, rest), tensors), mimetype=SAFETENSORS)
