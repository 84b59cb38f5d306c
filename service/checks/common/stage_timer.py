"""The time of a check, by stage."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class StageTimer:
    """Seconds by stage."""

    stage_seconds: dict[str, float] = field(
        default_factory=lambda: {
            "analytic": 0.0,
            "autograd": 0.0,
            "finite_difference": 0.0,
            "verdict": 0.0,
            "diagnosis": 0.0,
        }
    )
    started: float = field(default_factory=time.perf_counter)

    @contextmanager
    def time_stage(self, name: str) -> Generator[None]:
        """Count the time spent inside to a stage."""
        start = time.perf_counter()
        yield
        self.stage_seconds[name] = self.stage_seconds.get(name, 0.0) + time.perf_counter() - start

    @property
    def elapsed_seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started
