"""Arguments of the command, and its exit status."""

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import gradcheckd
from gradcheckd.command import catalogue_commands, check_commands, serve_command
from gradcheckd.connection import DEFAULT_URL, KEY_VARIABLE, URL_VARIABLE
from gradcheckd.errors import GradcheckdError

ERROR_STATUS = 3
_INTERRUPTED_STATUS = 130
_STATUS_HELP = (
    "exit status: 0 pass, 1 fail (a gradient is wrong), 2 inconclusive (it could not be told), "
    "3 error (nothing was judged)"
)
_FILE_HELP = "JSON, .safetensors or .npz (arrays named {0}); - for standard input"
CommandHandler = Callable[[argparse.Namespace], int]


class _Parser(argparse.ArgumentParser):
    """One whose status for wrong usage is not that for inconclusive."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(ERROR_STATUS, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str]) -> int:
    """Run the command.

    Returns
    -------
    Exit status: 0 pass, 1 fail, 2 inconclusive, 3 error.
    """
    try:
        given = _build_parser().parse_args(arguments)
        run: CommandHandler = given.run
        return run(given)
    except GradcheckdError as error:
        print(f"gradcheckd: {error}", file=sys.stderr)
        return ERROR_STATUS
    except BrokenPipeError:
        # Nobody reads on, and nobody wants to hear of it.
        pass
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"gradcheckd: {where}{error.strerror or error}", file=sys.stderr)
    except KeyboardInterrupt:
        return _INTERRUPTED_STATUS
    except Exception as error:  # noqa: BLE001  # nothing unforeseen may end as "a gradient is wrong"
        print(
            f"gradcheckd: {type(error).__name__}: {error} - this is a fault of the client: report it, with what "
            "stands below.",
            file=sys.stderr,
        )
        traceback.print_exc()
    return ERROR_STATUS


def _build_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="gradcheckd", description="A second opinion for gradients.", epilog=_STATUS_HELP)
    parser.add_argument("--version", action="version", version=f"gradcheckd {gradcheckd.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    _add_check(commands)
    _add_plan(commands)
    _add_judge(commands)
    for name, run, what in (
        ("models", catalogue_commands.list_models, "preset models"),
        ("ops", catalogue_commands.list_ops, "ops of the language"),
    ):
        command = _add_request_command(commands, name, run, f"list the {what}, or show one")
        command.add_argument(
            "name", nargs="?", help="the one to show; a model is shown as a request that can be checked"
        )
        command.add_argument("--format", choices=("text", "json"), default="text")
    command = commands.add_parser(
        "serve", help="start the service, where it is installed", epilog=serve_command.SETTINGS_HELP
    )
    command.set_defaults(run=serve_command.serve_service)
    command.add_argument("--host", help="address to bind (HOST, default 127.0.0.1)")
    command.add_argument("--port", type=int, help="port to bind (PORT, default 8000)")
    command.add_argument("--workers", type=int, help="processes (WEB_CONCURRENCY, default 2)")
    return parser


def _add_check(commands: Any) -> None:
    command = _add_request_command(commands, "check", check_commands.run_check, "check the gradients of a request")
    names = "tensors/x, weights/w1, candidate/w1, and `request`, the other fields as JSON text"
    command.add_argument("file", metavar="FILE", help=f"the request: {_FILE_HELP.format(names)}")
    command.add_argument(
        "--set", metavar="FIELD=JSON", action="append", default=[], help="replace a field of the request"
    )
    _add_candidate(command)
    _add_format_option(command)


def _add_plan(commands: Any) -> None:
    command = _add_request_command(
        commands, "plan", check_commands.run_plan, "say where a loss that only you can evaluate is to be evaluated"
    )
    command.add_argument("file", metavar="FILE", help=f"the request: {_FILE_HELP.format('point/w')}")
    command.add_argument(
        "--set", metavar="FIELD=JSON", action="append", default=[], help="replace a field of the request"
    )
    command.add_argument(
        "--points",
        metavar="FILE",
        help="write the points there, one a line, below a line that begins with # and says which columns are of which "
        "tensor: the numbers of all tensors, in the order of the request, each row by row; - for standard output",
    )
    command.add_argument(
        "--scale",
        metavar="[NAME=]NUMBER|FILE",
        action="append",
        default=[],
        help="how far to move a tensor, or all: a number, or a file with one for each element",
    )
    for side in ("min", "max"):
        command.add_argument(
            f"--{side}",
            metavar="[NAME=]NUMBER|FILE",
            action="append",
            default=[],
            help=f"the {side} of a tensor, or of all, beyond which the loss is not evaluated: a number, or a file",
        )
    command.add_argument("--output", metavar="FILE", help="where to write the plan, instead of standard output")


def _add_judge(commands: Any) -> None:
    command = _add_request_command(
        commands, "judge", check_commands.run_judge, "judge a gradient by the losses at the points of a plan"
    )
    command.add_argument(
        "file", metavar="FILE", help="a whole request in JSON, or what `plan` wrote; - for standard input"
    )
    command.add_argument(
        "--losses",
        metavar="FILE",
        help="the losses, as numbers in a text, in the order of the points; null where the function has no value",
    )
    command.add_argument(
        "--tolerance",
        metavar="RTOL[,ATOL]",
        help="what your gradient may be off by: rtol times the derivative, and atol; as --set tolerance={...}",
    )
    command.add_argument(
        "--set", metavar="FIELD=JSON", action="append", default=[], help="replace a field of the request"
    )
    _add_candidate(command)
    _add_format_option(command)


def _add_candidate(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--candidate",
        metavar="NAME=FILE",
        action="append",
        default=[],
        help="your gradient of a tensor: numbers in a text, row by row (# begins a comment), or .npy",
    )


def _add_format_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--format", choices=("text", "json", "markdown", "html"), default="text", help="of the report")
    command.add_argument("--output", metavar="FILE", help="where to write the report, instead of standard output")


def _add_request_command(commands: Any, name: str, handler: CommandHandler, help_text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=help_text, description=help_text, epilog=_STATUS_HELP
    )
    command.set_defaults(run=handler)
    command.add_argument("--url", help=f"address of the service ({URL_VARIABLE}, default {DEFAULT_URL})")
    command.add_argument("--key", help=f"a key of it; rather set {KEY_VARIABLE}, which does not show among processes")
    command.add_argument("--timeout", type=float, default=150.0, help="seconds to wait for an answer (default 150)")
    return command
