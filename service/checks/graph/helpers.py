"""Helper processes, or a cluster, for the differences of large checks."""

from collections.abc import Callable, Generator
from concurrent.futures import Executor
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

from service.checks.common.limits import Limits
from service.checks.graph.cost_estimate import estimate_bytes
from service.checks.graph.problem import Problem
from service.helper_processes.pool import HelperPool
from service.numerics.gradients import finite_difference
from service.numerics.gradients.finite_difference import DifferencePlan

SMALLEST_SHARED_WORK = 10**9
"""Operations of a first level from which on helpers are worth their start: some half a second."""
_SPARE_BYTES = 2**26
"""Bytes of a helper beside its job: for the pickled job, and for what libraries take."""

HELPER_MODULES = ("service.numerics.ops", "service.numerics.gradients.finite_difference")
"""Modules of which jobs consist. Their own memory is none of a job."""
HELPER_POOL = HelperPool(HELPER_MODULES)
"""The helpers of this process, none until a large check may have them."""

CLUSTER: ContextVar[Callable[[], AbstractContextManager[Executor]] | None] = ContextVar("cluster", default=None)
"""Function that makes the executor of a check, in place of that of helpers; None for helpers."""


def count_helpers(problem: Problem, plan: DifferencePlan, limits: Limits) -> int:
    """Return the number of helpers that a check may have.

    A small check has none. The bytes of the check and of the data of its helpers stay within the limit of a check.
    """
    if limits.processes == 1 or plan.first_level_work < SMALLEST_SHARED_WORK:
        return 0
    difference_bytes = finite_difference.estimate_cost(plan).memory_bytes
    room = limits.bytes - estimate_bytes(problem, difference_bytes)
    return max(0, min(limits.processes - 1, room // difference_bytes))


@contextmanager
def share_differences(problem: Problem, plan: DifferencePlan, limits: Limits) -> Generator[Executor | None]:
    """Make an executor for the differences of a check within the block; None without a helper.

    At the end of the block, also by an error, no helper computes for the check.
    """
    make_executor = CLUSTER.get()
    if make_executor is not None and plan.first_level_work >= SMALLEST_SHARED_WORK:
        with make_executor() as executor:
            yield executor
        return
    count = count_helpers(problem, plan, limits)
    if not count:
        yield None
        return
    job_bytes = finite_difference.estimate_cost(plan).memory_bytes + _SPARE_BYTES
    with HELPER_POOL.share_work(count, limits.processes - 1, job_bytes) as executor:
        yield executor
