"""A progress bar on standard error, where that is a terminal."""

from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gradcheckd import progress


@contextmanager
def show_progress() -> Generator[progress.Progress]:
    """Show a bar while the block runs; what is yielded tells it of a step."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("evaluations"),
        TimeRemainingColumn(),
    )
    # Not a line is left of it, so that the report stands alone.
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("", total=None)

        def step(name: str, done: int, total: int) -> None:
            bars.update(task, description=_escape_name(name), completed=done, total=total)

        yield step


def _escape_name(name: str) -> str:
    """A name of the request, of which nothing acts upon the terminal."""
    return "".join(each if each.isprintable() else "?" for each in name[:40])
