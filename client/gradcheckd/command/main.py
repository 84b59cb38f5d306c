"""Arguments of the command, and its exit status."""

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import gradcheckd
from gradcheckd.command import catalogue_commands, check_commands, job_commands, serve_command, show_command
from gradcheckd.connection import KEY_VARIABLE, URL_VARIABLE
from gradcheckd.errors import GradcheckdError
from gradcheckd.http_errors import DEFAULT_URL

ERROR_STATUS = 3
_INTERRUPTED_STATUS = 130
_STATUS_HELP = (
    "exit status: 0 pass, 1 fail (a gradient is wrong), 2 inconclusive (it could not be told), "
    "3 error (nothing was judged)"
)
_FILE_HELP = "JSON, .safetensors or .npz (arrays named {0}); - for standard input"
CommandHandler = Callable[[argparse.Namespace], int]


class _Parser(argparse.ArgumentParser):
    """A parser whose exit status for wrong usage differs from that of an inconclusive report."""

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
        parsed_arguments = _build_parser().parse_args(arguments)
        run_handler: CommandHandler = parsed_arguments.run
        return run_handler(parsed_arguments)
    except GradcheckdError as error:
        print(f"gradcheckd: {error}", file=sys.stderr)
        return ERROR_STATUS
    except BrokenPipeError:
        # The reader is gone, and wants no message.
        pass
    except OSError as error:
        file_prefix = f"{error.filename}: " if error.filename else ""
        print(f"gradcheckd: {file_prefix}{error.strerror or error}", file=sys.stderr)
    except KeyboardInterrupt:
        return _INTERRUPTED_STATUS
    except Exception as error:  # noqa: BLE001  # no unforeseen error may end as "a gradient is wrong"
        print(
            f"gradcheckd: {type(error).__name__}: {error} - this is a bug of the client: report it, with the "
            "lines below.",
            file=sys.stderr,
        )
        traceback.print_exc()
    return ERROR_STATUS


def _build_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="gradcheckd", description="A second opinion for gradients.", epilog=_STATUS_HELP)
    parser.add_argument("--version", action="version", version=f"gradcheckd {gradcheckd.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    _add_check(commands)
    _add_jobs(commands)
    _add_show(commands)
    _add_plan(commands)
    _add_judge(commands)
    for name, handler, subject in (
        ("models", catalogue_commands.list_models, "preset models"),
        ("ops", catalogue_commands.list_ops, "ops of the language"),
    ):
        command = _add_request_command(commands, name, handler, f"list the {subject}, or show one")
        command.add_argument(
            "name", nargs="?", help="name of the one to show; a model comes as a request for `gradcheckd check`"
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
    command.add_argument("file", metavar="FILE", help=f"the request, or a model of ONNX: {_FILE_HELP.format(names)}")
    command.add_argument(
        "--set", metavar="FIELD=JSON", action="append", default=[], help="replace a field of the request"
    )
    _add_candidate(command)
    command.add_argument(
        "--detach", action="store_true", help="let the check go on at the service as a job, and write the job's name"
    )
    _add_format_option(command)


def _add_jobs(commands: Any) -> None:
    command = _add_request_command(commands, "jobs", job_commands.list_own_jobs, "list your jobs, or cancel one")
    command.add_argument("--cancel", metavar="JOB", help="cancel this job, or forget it if it has ended")
    command.add_argument("--format", choices=("text", "json"), default="text")
    command = _add_request_command(
        commands, "wait", job_commands.wait_for_job, "wait for the end of a job, and write its report"
    )
    command.add_argument("job", metavar="JOB", help="name of the job, as `gradcheckd check --detach` writes it")
    _add_format_option(command)


def _add_show(commands: Any) -> None:
    command = _add_request_command(
        commands, "show", show_command.show_model, "write the model of a request as text, a node a line"
    )
    command.add_argument(
        "file", metavar="FILE", help=f"the request, or a model of ONNX: {_FILE_HELP.format('tensors/x, weights/w1')}"
    )
    command.add_argument("--output", metavar="FILE", help="write the text to a file instead of standard output")


def _add_plan(commands: Any) -> None:
    command = _add_request_command(
        commands,
        "plan",
        check_commands.run_plan,
        "plan the points at which to evaluate a loss that only you can evaluate",
    )
    command.add_argument("file", metavar="FILE", help=f"the request: {_FILE_HELP.format('point/w')}")
    command.add_argument(
        "--set", metavar="FIELD=JSON", action="append", default=[], help="replace a field of the request"
    )
    command.add_argument(
        "--points",
        metavar="FILE",
        help="write the points to a file, one a line, with the numbers of all tensors in the order of the request, "
        "each row by row; a first line that begins with # names the columns of each tensor; - for standard output",
    )
    command.add_argument(
        "--scale",
        metavar="[NAME=]NUMBER|FILE",
        action="append",
        default=[],
        help="size of the moves of a tensor, or of all: a number, or a file with one for each element",
    )
    for side in ("min", "max"):
        command.add_argument(
            f"--{side}",
            metavar="[NAME=]NUMBER|FILE",
            action="append",
            default=[],
            help=f"the {side} of a tensor, or of all, which no point exceeds: a number, or a file",
        )
    command.add_argument("--output", metavar="FILE", help="write the plan to a file instead of standard output")


def _add_judge(commands: Any) -> None:
    command = _add_request_command(
        commands, "judge", check_commands.run_judge, "judge a gradient by the losses at the points of a plan"
    )
    command.add_argument(
        "file", metavar="FILE", help="a request in JSON, or the output of `plan`; - for standard input"
    )
    command.add_argument(
        "--losses",
        metavar="FILE",
        help="a text with the losses, in the order of the points; null where the function has no value",
    )
    command.add_argument(
        "--tolerance",
        metavar="RTOL[,ATOL]",
        help="allowed error of your gradient: rtol times the derivative, plus atol; as --set tolerance={...}",
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
    command.add_argument(
        "--format",
        choices=("text", "json", "markdown", "html"),
        default="text",
        help="form of the report (default text)",
    )
    command.add_argument("--output", metavar="FILE", help="write the report to a file instead of standard output")
    command.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="show all pairs of gradients, the gradients themselves and all worst elements, also of a pass",
    )


def _add_request_command(commands: Any, name: str, handler: CommandHandler, help_text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=help_text, description=help_text, epilog=_STATUS_HELP
    )
    command.set_defaults(run=handler)
    command.add_argument(
        "--url",
        help=f"address of the service ({URL_VARIABLE}; by default the service runs in the command itself if it is "
        f"installed here, and else is expected at {DEFAULT_URL})",
    )
    command.add_argument(
        "--key", help=f"key of the service; better set {KEY_VARIABLE}, which no list of processes shows"
    )
    command.add_argument("--timeout", type=float, default=150.0, help="seconds to wait for an answer (default 150)")
    return command
