"""What is estimated holds: peak memory of whole checks, in a process of its own, beside their estimates.

`python -m tests.memory_peaks 64000` measures every op, and all that a request may ask for.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.numerics.ops import OP_REGISTRY
from tests.large_models import build_models

ROOT = Path(__file__).parents[4]
ELEMENTS = 16_000
MOST = 1.25
"""Times the estimate that a check may take: so it stays within as much of a limit that it is below."""


def measure_models(only: str, before: str = "", elements: int = ELEMENTS) -> dict[str, tuple[int, int]]:
    """Bytes estimated, and those taken, of models by the parts of their names."""
    code = f"{before}\nfrom tests.memory_peaks import main; main({elements}, {only!r})"
    # Each piece that is freed is given back, so that what is taken is what is held.
    environment = os.environ | {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": "262144", "OMP_NUM_THREADS": "1"}
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    return {name: (estimated, taken) for name, estimated, taken in map(json.loads, process.stdout.splitlines())}


def test_every_op_has_a_large_model() -> None:
    assert OP_REGISTRY.keys() == {node["op"] for _, model in build_models(1600) for node in model["model"]["nodes"]}


@pytest.mark.no_cover
def test_no_check_takes_more_than_is_estimated() -> None:
    names = "drawn, 0|drawn, 1|drawn, 4|attention, long|triplet|kinks|many directions|large kernel|not finite|all wrong"
    bytes_by_model = measure_models(names)
    assert len(bytes_by_model) >= 13
    too_much = {name: sizes for name, sizes in bytes_by_model.items() if sizes[1] > MOST * sizes[0]}
    assert not too_much
    assert all(taken > 0 for _, taken in bytes_by_model.values())
    # An estimate that is far too large would refuse what fits.
    assert all(estimated < 4 * taken for name, (estimated, taken) in bytes_by_model.items() if name.startswith("drawn"))


@pytest.mark.long
@pytest.mark.no_cover
def test_without_blocks_a_large_kernel_takes_several_times_as_much() -> None:
    name, elements = "conv2d, large kernel", 32_000
    whole = "from service.numerics.ops import blocked_convolution; blocked_convolution.MAX_COPIED_NUMBERS = 2**40"
    estimated, held = measure_models(name, elements=elements)[name]
    _, copied = measure_models(name, whole, elements)[name]
    assert held < MOST * estimated
    assert copied > held + 2**24, "the negative control"
