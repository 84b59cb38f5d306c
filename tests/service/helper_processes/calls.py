"""Functions that helpers call, in a module that they can import."""

import os
import signal
import time

import numpy as np


def square(number: int) -> int:
    return number * number


def find_process(number: int) -> int:
    return os.getpid()


def divide(number: int) -> float:
    return 1 / number


def kill_unless(survivor: int, number: int) -> int:
    """The square; in any process but the survivor, its end."""
    if os.getpid() != survivor:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def fail_unless(able: int, number: int) -> int:
    if os.getpid() != able:
        raise RuntimeError
    return number * number


def sleep_unless(awake: int, number: int) -> int:
    if os.getpid() != awake:
        time.sleep(3600)
    return number * number


def fill_memory(mebibytes: int) -> int:
    """The process that could."""
    np.ones(mebibytes * 2**17)
    return os.getpid()
