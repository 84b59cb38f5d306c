"""The score by which the kernel chooses a process to kill where memory runs out."""

from pathlib import Path

_OOM_SCORE = 500
"""Score above the worker's: where memory runs out, the kernel kills this process, and the worker goes on."""


def raise_oom_score() -> None:
    """Let the kernel kill this process before the workers."""
    score = Path("/proc/self/oom_score_adj")
    try:
        score.write_text(str(min(1000, int(score.read_text()) + _OOM_SCORE)))
    except OSError:
        return
