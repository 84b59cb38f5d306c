import subprocess
import sys
from pathlib import Path

from service.helper_processes import oom_score

PROGRAM = """
from pathlib import Path
from service.helper_processes.oom_score import raise_oom_score
raise_oom_score()
raise_oom_score()
print(Path("/proc/self/oom_score_adj").read_text())
raise_oom_score()
"""


def test_score_is_above_that_of_the_starting_process():
    own_score = int(Path("/proc/self/oom_score_adj").read_text())
    output = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True).stdout
    assert int(output) == min(1000, own_score + 1000)


def test_system_without_scores_has_none(monkeypatch):
    monkeypatch.setattr(oom_score, "Path", lambda _: Path("/nowhere/oom_score_adj"))
    oom_score.raise_oom_score()
