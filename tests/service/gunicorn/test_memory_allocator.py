"""What blocks of a convolution copy is given back."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from service.gunicorn import memory_allocator

CONVOLVED = """
import sys
import torch
from service.numerics.ops.conv import Conv2d
from service.gunicorn import memory_allocator as allocator

def resident():
    (line,) = [each for each in open("/proc/self/status") if each.startswith("VmHWM")]
    return 1024 * int(line.split()[1])

torch.set_num_threads(1)
if "mapped" in sys.argv:
    assert allocator.configure_malloc()
x, w = (torch.ones(shape, dtype=torch.float64, requires_grad=True) for shape in ((1, 1, 120, 120), (1, 1, 60, 60)))
before = resident()
y = Conv2d().torch_forward(torch, x, w, None)
print(resident() - before)
"""
LITTLE, MUCH = 24 * 2**20, 48 * 2**20
"""Bytes: measured are 10 MiB where they are mapped, and 71 to 98 where not."""


def measure_growth(*arguments: str) -> int:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CONVOLVED, *arguments]
    return int(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


@pytest.mark.long
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator of glibc is set")
def test_blocks_of_a_convolution_leave_no_holes() -> None:
    assert measure_growth("mapped") < LITTLE
    assert measure_growth() > MUCH, "the negative control"


def test_environment_overrides_the_allocator_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "1048576")
    assert not memory_allocator.configure_malloc()


REPEATED = """
import ctypes
import resource
import sys
from service.gunicorn import memory_allocator as allocator

assert allocator.configure_malloc()
if "trimmed" in sys.argv:
    ctypes.CDLL(None).mallopt(-1, 2**17)

def take_and_free():
    blocks = [b"x" * 2**19 for _ in range(8)]
    del blocks

take_and_free()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    take_and_free()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 8 * 2**19 // os.sysconf("SC_PAGE_SIZE")
"""Pages of the blocks."""


def count_faults(*arguments: str) -> int:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", REPEATED, *arguments]
    return int(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator of glibc is set")
def test_repeated_blocks_are_not_cleared_anew_each_time() -> None:
    assert count_faults() < PAGES
    assert count_faults("trimmed") > 10 * PAGES, "the negative control"


HOLES = """
from service.gunicorn import memory_allocator as allocator

holes = allocator.FreeHeapPages()
pieces = [bytes(1000) for _ in range(64_000)]
kept = pieces[-1]
del pieces
grown = allocator.read_resident_bytes()
given_back = holes.give_back()
print(given_back, grown - allocator.read_resident_bytes(), holes.give_back())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator of glibc is asked")
def test_free_pages_below_held_ones_are_returned_once() -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    process = subprocess.run([sys.executable, "-c", HOLES], env=environment, check=True, capture_output=True, text=True)
    first, fallen, second = process.stdout.split()
    assert (first, second) == ("True", "False")
    assert int(fallen) > 48 * 2**20, "so much is not given back of itself: the negative control"


def test_worker_that_has_not_grown_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = iter([100, 50, 50 + memory_allocator.GROWTH_BYTES - 1, 50 + memory_allocator.GROWTH_BYTES, 60])
    monkeypatch.setattr(memory_allocator, "read_resident_bytes", lambda: next(sizes))
    holes = memory_allocator.FreeHeapPages()
    assert [holes.give_back() for _ in range(3)] == [False, False, True]


def test_unknown_memory_size_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_not_found(*_: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", raise_not_found)
    assert memory_allocator.read_resident_bytes() is None
    assert not memory_allocator.FreeHeapPages().give_back()
