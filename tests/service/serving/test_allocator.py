"""What blocks of a convolution copy is given back."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from service.serving import allocator

CONVOLVED = """
import sys
import torch
from service.numerics.ops.conv import Conv2d
from service.serving import allocator

def resident():
    (line,) = [each for each in open("/proc/self/status") if each.startswith("VmHWM")]
    return 1024 * int(line.split()[1])

torch.set_num_threads(1)
if "mapped" in sys.argv:
    assert allocator.use()
x, w = (torch.ones(shape, dtype=torch.float64, requires_grad=True) for shape in ((1, 1, 120, 120), (1, 1, 60, 60)))
before = resident()
y = Conv2d().twin(torch, x, w, None)
print(resident() - before)
"""
LITTLE, MUCH = 24 * 2**20, 48 * 2**20
"""Bytes: measured are 10 MiB where they are mapped, and 71 to 98 where not."""


def grown(*arguments: str) -> int:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CONVOLVED, *arguments]
    return int(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator of glibc is set")
def test_blocks_of_a_convolution_leave_no_holes() -> None:
    assert grown("mapped") < LITTLE
    assert grown() > MUCH, "the negative control"


def test_what_is_settled_by_the_environment_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "1048576")
    assert not allocator.use()
