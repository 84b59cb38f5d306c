"""A matrix of many elements as a picture: PNG, written with the standard library."""

import struct
import zlib
from base64 import b64encode

import numpy as np

from gradcheckd.arrays import Array

MAX_PIXELS = 512
"""Pixels along an axis; several elements of a longer one share a pixel."""


def write_png(colours: Array) -> str:
    """Write RGB in uint8, shape (rows, columns, 3), as a data URL."""
    rows, columns, _ = colours.shape
    # Before each row stands its filter: none.
    raw = np.concatenate([np.zeros((rows, 1), np.uint8), colours.reshape(rows, -1)], axis=1).tobytes()
    head = struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0)
    parts = (b"IHDR", head), (b"IDAT", zlib.compress(raw, 9)), (b"IEND", b"")
    content = b"\x89PNG\r\n\x1a\n" + b"".join(_write_chunk(kind, data) for kind, data in parts)
    return "data:image/png;base64," + b64encode(content).decode("ascii")


def _write_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def reduce_matrix(matrix: Array) -> tuple[Array, int]:
    """Reduce a matrix to the pixels that there is room for: the largest element of each block.

    Returns
    -------
    The matrix, and how many elements along an axis share a pixel.
    """
    block_length = -(-max(matrix.shape) // MAX_PIXELS)
    if block_length == 1:
        return matrix, 1
    rows, columns = (-(-size // block_length) for size in matrix.shape)
    padded = np.zeros((rows * block_length, columns * block_length), matrix.dtype)
    padded[: matrix.shape[0], : matrix.shape[1]] = matrix
    blocks = (
        padded.reshape(rows, block_length, columns, block_length)
        .swapaxes(1, 2)
        .reshape(rows, columns, block_length * block_length)
    )
    # Numbers that are not finite must be seen above all.
    sizes = np.where(np.isfinite(blocks), np.abs(blocks), np.inf)
    return np.take_along_axis(blocks, sizes.argmax(axis=-1)[..., None], axis=-1)[..., 0], block_length
