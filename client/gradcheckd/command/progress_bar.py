"""A progress bar on standard error, where that is a terminal."""

from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gradcheckd import progress
from gradcheckd.visible_text import escape_invisible

_MAX_NAME_LENGTH = 40


@contextmanager
def show_progress() -> Generator[progress.Progress]:
    """Show a bar while the block runs, and yield the function that reports a step to it."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("evaluations"),
        TimeRemainingColumn(),
    )
    # The bar vanishes at its end, so that the report stands alone.
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def step(name: str, done: int, total: int) -> None:
            bar.update(task, description=escape_invisible(name[:_MAX_NAME_LENGTH]), completed=done, total=total)

        yield step
