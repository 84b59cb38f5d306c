"""The command, in this process: what it writes, and the status that it ends with."""

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import httpx
import numpy as np
import pytest
import safetensors.numpy

from gradcheckd import GradcheckdError, RequestError, local_service, wire
from gradcheckd.arrays import TypedTensor, to_tensor
from gradcheckd.command import main, run_command
from gradcheckd.command.request_files import parse_numbers
from gradcheckd.progress import follow_progress
from tests.client.conftest import W1
from tests.client.test_connection import serve_answers

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
INCONCLUSIVE = ["--set", 'finite_difference={"method": "central", "step": 100}']


@pytest.fixture
def run_main(url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run the command; its status, and what it wrote to standard output and to standard error."""
    monkeypatch.setenv("GRADCHECKD_URL", url)

    def run(*arguments: str, given: bytes | None = None) -> tuple[int, str, str]:
        if given is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as ended:
            status = int(ended.code or 0)
        return status, *capsys.readouterr()

    return run


def fetch_text_lines(url: str, body: dict[str, Any], form: str, path: str = "/v1/check") -> list[str]:
    text = httpx.post(url + path, json=body, headers={"Accept": form}, timeout=60).text
    return drop_timing_lines(text)


def drop_timing_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if "loss evaluations in" not in line]


@pytest.mark.parametrize(("name", "status"), [("reference.json", 0), ("wrong_sign.json", 1)])
@pytest.mark.parametrize(("form", "media_type"), [("text", "text/plain"), ("markdown", "text/markdown")])
def test_text_is_that_of_the_service(
    run_main: Callable[..., Any], url: str, name: str, status: int, form: str, media_type: str
) -> None:
    ended, out, err = run_main("check", EXAMPLES / name, "--format", form)
    assert (ended, err) == (status, "")
    assert drop_timing_lines(out) == fetch_text_lines(url, json.loads((EXAMPLES / name).read_text()), media_type)


@pytest.mark.parametrize("option", ["-v", "--verbose"])
def test_details_are_shown_on_request(run_main: Callable[..., Any], option: str) -> None:
    _, short, _ = run_main("check", EXAMPLES / "reference.json")
    assert len(short.splitlines()) <= 5
    _, out, _ = run_main("check", EXAMPLES / "reference.json", option, "--set", "include=[]")
    assert {"Verdicts", "Discrepancies", "Gradients", "Model"} <= set(out.splitlines())
    _, out, _ = run_main("check", EXAMPLES / "wrong_sign.json", option, "--format", "markdown")
    assert "<summary>Discrepancies</summary>" in out


@pytest.mark.parametrize(("terminal", "columns"), [(80, 80), (100, 100), (200, 120), (10, 40)])
def test_a_report_is_as_wide_as_the_terminal(url: str, terminal: int, columns: int) -> None:
    written = run_in_terminal(terminal, "check", str(EXAMPLES / "wrong_sign.json"), "--url", url)
    widths = [len(line) for line in written.splitlines()]
    assert columns - 12 < max(widths) <= columns
    assert "w1: one element, sign flipped: w1[1][1]." in written.replace("\n", " ").replace("  ", " ")


def run_in_terminal(columns: int, *arguments: str) -> str:
    """Run the command with its standard output on a terminal of some width, and return what it shows."""
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (40, columns))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    command = [sys.executable, "-m", "gradcheckd", *arguments]
    process = subprocess.Popen(command, stdout=slave, stderr=subprocess.DEVNULL, env=environment, cwd=ROOT / "client")
    os.close(slave)
    written = b""
    with suppress(OSError):  # a terminal whose other end is closed
        while part := os.read(master, 65536):
            written += part
    os.close(master)
    assert process.wait() == 1
    return written.decode().replace("\r\n", "\n")


def test_inconclusive_report_has_its_own_exit_status(run_main: Callable[..., Any]) -> None:
    status, out, _ = run_main("check", EXAMPLES / "reference.json", *INCONCLUSIVE)
    assert status == 2
    assert out.startswith("gradcheckd: inconclusive\n")


def test_json_output_is_the_report(run_main: Callable[..., Any], url: str) -> None:
    status, out, _ = run_main("check", EXAMPLES / "wrong_sign.json", "--format", "json")
    report = httpx.post(f"{url}/v1/check", json=json.loads((EXAMPLES / "wrong_sign.json").read_text())).json()
    assert status == 1
    assert json.loads(out) | {"cost": 0} == report | {"cost": 0}


def test_html_and_a_file_to_write_to(run_main: Callable[..., Any], tmp_path: Path) -> None:
    written = tmp_path / "report.html"
    assert run_main("check", EXAMPLES / "wrong_sign.json", "--format", "html", "--output", written) == (1, "", "")
    page = written.read_text()
    assert page.startswith("<!doctype html>")
    assert page.count("<figure") == 5 + 4, (
        "of both weights each route and the difference, though the request leaves gradients out"
    )


def test_every_form_of_a_request_is_taken(
    run_main: Callable[..., Any], reference_arrays: dict[str, Any], tmp_path: Path
) -> None:
    named = {f"{section}/{name}": array for section, named in reference_arrays.items() for name, array in named.items()}
    # The library writes the memory of an array, whatever its strides.
    named["candidate/w1"] = np.ascontiguousarray(W1.T)
    fields = json.dumps({"include": [], "with_respect_to": ["w1"]})
    safetensors.numpy.save_file(named, tmp_path / "a", {"request": fields})
    np.savez(tmp_path / "b.npz", **named, request=fields)
    whole = {
        section: {name: array.tolist() for name, array in named.items()} for section, named in reference_arrays.items()
    }
    (tmp_path / "c").write_text(json.dumps(whole | {"candidate": {"w1": W1.T.tolist()}} | json.loads(fields)))
    reports = set()
    for name in ("a", "b.npz", "c"):
        for arguments, given in (((tmp_path / name,), None), (("-",), (tmp_path / name).read_bytes())):
            status, out, _ = run_main("check", *arguments, "--format", "json", given=given)
            assert status == 1
            reports.add(json.dumps(json.loads(out) | {"cost": 0}))
            # A field is replaced in each of them as well.
            status, out, _ = run_main(
                "check", *arguments, "--format", "json", "--set", "candidate_dtype=FP32", given=given
            )
            assert json.loads(out)["verdicts"]["w1"]["worst"][0]["allowed"] > 1e-9
    assert len(reports) == 1


def test_a_gradient_from_a_file_of_numbers_is_judged_and_its_bug_is_named(
    run_main: Callable[..., Any], tmp_path: Path
) -> None:
    request, numbers = EXAMPLES / "reference.json", tmp_path / "w1.txt"
    numbers.write_text(" ".join(map(repr, W1.ravel().tolist())))
    assert run_main("check", request, "--candidate", f"w1={numbers}")[0] == 0
    numbers.write_text("\n".join(map(repr, W1.T.ravel().tolist())))
    status, out, _ = run_main("check", request, "--candidate", f"w1={numbers}")
    assert status == 1
    assert "probable bug: transposed" in out
    np.save(tmp_path / "w1.npy", -W1)
    status, out, _ = run_main("check", request, "--candidate", f"w1={tmp_path / 'w1.npy'}")
    assert "probable bug: sign_flipped" in out
    numbers.write_text("1, 2, 3")
    status, out, _ = run_main("check", request, "--candidate", f"w1={numbers}")
    assert status == 1
    assert "shape" in out


POINT = [0.5, -1.5, 2.0]


def compute_losses(points: Any) -> list[float]:
    return [float((np.sin(w) * np.roll(w, 1)).sum()) for w in np.asarray(points)]


def compute_gradient() -> Any:
    w = np.array(POINT)
    return np.cos(w) * np.roll(w, 1) + np.sin(np.roll(w, -1))


def test_command_checks_a_black_box_by_files(run_main: Callable[..., Any], url: str, tmp_path: Path) -> None:
    names = {name: str(tmp_path / name) for name in ("point", "points", "plan", "losses", "gradient")}
    Path(names["point"]).write_text(json.dumps({"point": {"w": POINT}}))
    assert run_main("plan", names["point"], "--points", names["points"], "--output", names["plan"]) == (0, "", "")
    points = np.loadtxt(names["points"])
    plan = json.loads(Path(names["plan"]).read_text())
    assert points.shape == (plan["evaluations"], 3)
    Path(names["losses"]).write_text("\n".join(map(repr, compute_losses(points))))
    arguments = ("judge", names["plan"], "--losses", names["losses"], "--candidate", names["gradient"])
    for factor, status, words in ((1, 0, "gradcheckd: pass\n"), (-1, 1, "a sign was lost.")):
        Path(names["gradient"]).write_text(" ".join(map(repr, (factor * compute_gradient()).tolist())))
        ended, out, err = run_main(*arguments)
        assert (ended, err) == (status, "")
        assert words in " ".join(out.split()) + "\n" or words in out
    status, out, _ = run_main(*arguments, "--format", "json")
    assert json.loads(out)["verdicts"]["w"]["taylor"]["factor"] == pytest.approx(-1)
    assert run_main(*arguments, "--format", "html")[1].startswith("<!doctype html>")
    assert run_main(*arguments, "--format", "markdown")[1].startswith("## gradcheckd: fail\n")
    assert run_main(*arguments, "--set", "relative_error=0.01")[0] == 1


def test_command_checks_a_black_box_in_json(run_main: Callable[..., Any]) -> None:
    status, out, _ = run_main(
        "plan", "-", "--set", 'directions={"kind": "coordinates"}', given=json.dumps({"point": {"w": POINT}}).encode()
    )
    answer = json.loads(out)
    assert (status, len(answer["points"])) == (0, answer["evaluations"])
    losses = compute_losses([point["w"] for point in answer["points"]])
    body = {"plan": answer["plan"], "losses": losses, "candidate": {"w": (compute_gradient() * [1, 1.001, 1]).tolist()}}
    status, out, _ = run_main("judge", "-", given=json.dumps(body).encode())
    assert status == 1
    assert "[1]" in out


MANY = {"w": np.array([[1.5, 2.5]]), "a": np.array([0.5], np.float32), "b": np.array([2.0])}


def write_points(kind: str, path: Path) -> Path:
    if kind == "npz":
        np.savez(path.with_suffix(".npz"), **{f"point/{name}": array for name, array in MANY.items()})
        return path.with_suffix(".npz")
    if kind == "json":
        path.write_text(json.dumps({"point": {name: array.tolist() for name, array in MANY.items()}}))
    else:
        stored = {f"point/{name}": cast("TypedTensor", to_tensor(array, name)) for name, array in MANY.items()}
        path.write_bytes(wire.to_safetensors(stored, {}))
    return path


@pytest.mark.parametrize("kind", ["json", "npz", "safetensors"])
def test_points_of_many_tensors_are_in_the_order_of_the_request(
    run_main: Callable[..., Any], tmp_path: Path, kind: str
) -> None:
    """And a right gradient of what a program reads by position passes, a transposition of two tensors fails."""
    request, plan, points = write_points(kind, tmp_path / "request"), tmp_path / "plan", tmp_path / "points"
    status, out, err = run_main("plan", request, "--points", points, "--output", plan)
    columns = 'columns 1 to 2: "w", shape [1, 2]; column 3: "a", shape [1]; column 4: "b", shape [1]'
    assert (status, out, err) == (0, "", f"gradcheckd: the points have, in {columns}\n")
    assert points.read_text().splitlines()[0] == f"# {columns}"
    read = np.loadtxt(points)
    assert read[0].tolist() == [1.5, 2.5, 0.5, 2.0]
    losses = tmp_path / "losses"
    losses.write_text("\n".join(repr(float(x * y + np.sin(a) * b * b)) for x, y, a, b in read))
    right = {"w": [2.5, 1.5], "a": [4 * np.cos(0.5)], "b": [4 * np.sin(0.5)]}
    for swapped, expected in ((False, 0), (True, 1)):
        of = {**right, "a": right["b"], "b": right["a"]} if swapped else right
        for name, value in of.items():
            (tmp_path / name).write_text(" ".join(repr(float(number)) for number in value))
        given = [part for name in MANY for part in ("--candidate", f"{name}={tmp_path / name}")]
        status, out, _ = run_main("judge", plan, "--losses", losses, *given, "--format", "json")
        assert status == expected
        assert list(json.loads(out)["verdicts"]) == ["w", "a", "b"]


def test_scales_and_bounds_are_arguments_and_a_loss_without_a_value_is_null(
    run_main: Callable[..., Any], tmp_path: Path
) -> None:
    """The logarithm of two tensors that lie next to the end of its domain, and on a bound that is not."""
    plan, points, losses = tmp_path / "plan", tmp_path / "points", tmp_path / "losses"
    (tmp_path / "low").write_text("0.5 # and\n-inf")
    given = json.dumps({"point": {"w": [0.5, 0.25], "b": 0.125}, "directions": {"kind": "coordinates"}}).encode()
    options = (
        "--min",
        "b=0",
        "--min",
        f"w={tmp_path / 'low'}",
        "--max",
        "0.51",
        "--scale",
        "0.5",
        "--scale",
        "b=0x1p-3",
    )
    status, _, err = run_main("plan", "-", *options, "--points", points, "--output", plan, given=given)
    assert (status, err.count("\n")) == (0, 1)
    read = np.loadtxt(points)
    assert (read[:, 0] >= 0.5).all()
    assert (read[:, 2] >= 0).all()
    assert (read < 0.51).all()
    assert np.abs(read[19:] - read[0]).max(axis=0).tolist() == [pytest.approx(0.006, abs=2e-3), 0.0625, 0.015625]
    values = np.log(0.52 - read).sum(axis=1)
    there = read[:, 1] >= 0.25 - 2.0**-5
    losses.write_text("\n".join(np.where(there, [repr(value) for value in values.tolist()], "null")))
    assert "null" in losses.read_text()
    right = {"w": [-1 / 0.02, -1 / 0.27], "b": [-1 / 0.395]}
    for factor, tolerance, expected in ((1, (), 0), (1 + 1e-5, (), 1), (1 + 1e-5, ("--tolerance", "1e-4,0"), 0)):
        for name, value in right.items():
            (tmp_path / name).write_text(" ".join(repr(factor * number) for number in value))
        candidates = [part for name in right for part in ("--candidate", f"{name}={tmp_path / name}")]
        assert run_main("judge", plan, "--losses", losses, *candidates, *tolerance)[0] == expected


def test_a_name_with_a_line_end_leaves_the_points_one_a_line(run_main: Callable[..., Any], tmp_path: Path) -> None:
    run_main("plan", "-", "--points", tmp_path / "points", given=json.dumps({"point": {"a\nb": 0.5}}).encode())
    lines = (tmp_path / "points").read_text().splitlines()
    assert lines[:2] == ['# column 1: "a\\nb", shape []', "0.5"]


def test_catalogues_are_listed_and_one_of_each_is_shown(run_main: Callable[..., Any]) -> None:
    assert re.match(r"conv_tanh_scale_sigmoid +The reference example", run_main("models")[1])
    assert json.loads(run_main("models", "--format", "json")[1])["models"]
    _, request, _ = run_main("models", "mlp_classifier")
    assert run_main("check", "-", given=request.encode())[0] == 0
    assert "\nconv2d " in run_main("ops")[1]
    assert json.loads(run_main("ops", "--format", "json")[1])["ops"]
    assert run_main("ops", "conv2d")[1].startswith("conv2d(input, weight, bias?, stride=1, ")
    assert json.loads(run_main("ops", "conv2d", "--format", "json")[1])["name"] == "conv2d"


WRONG = {
    "a candidate without a name": (("check", "-", "--candidate", "=w.txt"), b"{}", "takes NAME=FILE, as in"),
    "a bound without a name": (("plan", "-", "--min", "=0"), b"{}", "--min takes [NAME=]NUMBER or [NAME=]FILE"),
    "a scale of nothing": (("plan", "-", "--scale", "w="), b"{}", "--scale takes [NAME=]NUMBER or [NAME=]FILE"),
    "a tolerance that is none": (("judge", "-", "--tolerance", "low"), b"{}", "--tolerance takes RTOL or RTOL,ATOL"),
    "three tolerances": (("judge", "-", "--tolerance", "1,2,3"), b"{}", "--tolerance takes RTOL or RTOL,ATOL"),
    "a candidate without a file": (("check", "-", "--candidate", "w="), b"{}", "takes NAME=FILE, as in"),
    "no command": ((), None, "usage: gradcheckd"),
    "no such command": (("bogus",), None, "invalid choice: 'bogus'"),
    "no such format": (("check", "x", "--format", "pdf"), None, "invalid choice: 'pdf'"),
    "no such file": (("check", "nothing.json"), None, "nothing.json: No such file"),
    "neither format": (("check", "-"), b"hello", "neither JSON"),
    "no object": (("check", "-"), b"[1]", "a request is an object"),
    "no such field": (("check", "-", "--set", "moodel=1"), b"{}", "did you mean 'model'?"),
    "a field without a value": (("check", "-", "--set", "model"), b"{}", "--set takes FIELD=JSON"),
    "NaN in JSON": (("check", "-"), b'{"tensors": {"x": NaN}, "weights": {}}', "NaN"),
    "a .npz that is none": (("check", "-"), b"PK\3\4nothing", "is no .npz"),
    "JSON without end": (("check", "-"), b"[" * 20_000, "nested too deeply"),
    "lists without end": (
        ("check", "-"),
        b'{"weights": {"w": ' + b"[" * 20_000 + b"]" * 20_000 + b"}}",
        "nested too deeply",
    ),
    "a timeout of less than nothing": (("models", "--timeout", "-1"), None, "positive number of seconds"),
    "a timeout that is no number": (("models", "--timeout", "nan"), None, "positive number of seconds"),
    "a timeout without end": (("models", "--timeout", "1e300"), None, "positive number of seconds"),
    "nobody there": (("models", "--url", "http://127.0.0.1:1"), None, "make serve"),
    "no such model": (("models", "lenett"), None, "did you mean 'lenet'?"),
    "no such op": (("ops", "xyz"), None, "`gradcheckd ops` lists them"),
    "text among losses": (("judge", "-", "--losses", __file__), b"{}", "line 1: there are to be numbers"),
    "a candidate of which": (("check", EXAMPLES / "reference.json", "--candidate", "x"), None, "one of x, y, w1, w2"),
}


@pytest.mark.parametrize(("arguments", "given", "message"), WRONG.values(), ids=WRONG)
def test_unjudgeable_request_is_an_error_with_its_reason(
    run_main: Callable[..., Any], arguments: Any, given: bytes | None, message: str
) -> None:
    status, out, err = run_main(*arguments, given=given)
    assert (status, out) == (3, "")
    assert message in err
    assert "Traceback" not in err


BROKEN = {
    "cut off": lambda content: content[:-1],
    "cut off in its head": lambda content: content[:20],
    "with a head that is none": lambda content: content.replace(b"(2, 2)", b"(2, 2 "),
    "very large": lambda content: content.replace(b"(2, 2), }            ", b"(9999999, 9999999999), }"[:21]),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
def test_a_npy_that_is_broken_is_an_error(run_main: Callable[..., Any], tmp_path: Path, change: Any) -> None:
    np.save(tmp_path / "whole.npy", W1)
    (tmp_path / "w1.npy").write_bytes(change((tmp_path / "whole.npy").read_bytes()))
    status, out, err = run_main("check", EXAMPLES / "reference.json", "--candidate", f"w1={tmp_path / 'w1.npy'}")
    assert (status, out, err.count("\n")) == (3, "", 1)
    assert "is no .npy of numbers that can be read" in err


def test_a_npy_of_objects_is_an_error(run_main: Callable[..., Any], tmp_path: Path) -> None:
    np.save(tmp_path / "w1.npy", np.array([None]), allow_pickle=True)
    status, _, err = run_main("check", EXAMPLES / "reference.json", "--candidate", f"w1={tmp_path / 'w1.npy'}")
    assert (status, err.count("\n")) == (3, 1)


@pytest.mark.parametrize("fields", ["{", "[1]", "[" * 20_000], ids=["cut off", "a list", "without end"])
def test_fields_beside_arrays_that_are_none_are_an_error(
    run_main: Callable[..., Any], tmp_path: Path, fields: str
) -> None:
    np.savez(tmp_path / "a.npz", **{"weights/w1": W1}, request=fields)
    safetensors.numpy.save_file({"weights/w1": W1}, tmp_path / "b", {"request": fields})
    for name in ("a.npz", "b"):
        status, out, err = run_main("check", tmp_path / name, "--set", "seed=1")
        assert (status, out, err.count("\n")) == (3, "", 1)
        assert "`request` is " in err


@pytest.mark.parametrize("command", ["models", "models lenet", "judge -", "plan - --points x"])
@pytest.mark.parametrize("content", [b'{"hello": 1}', b""], ids=["other JSON", "nothing"])
def test_an_answer_that_is_not_ours_is_an_error(run_main: Callable[..., Any], command: str, content: bytes) -> None:
    kind = "application/vnd.safetensors" if "--points" in command else "application/json"
    with serve_answers(lambda _: (200, {"Content-Type": kind}, content)) as (url, _):
        status, out, err = run_main(*command.split(), "--url", url, given=b"{}")
    assert (status, out, err.count("\n")) == (3, "", 1)
    assert "answer is not as it should be" in err


def test_numbers_have_comments_and_hexadecimals(tmp_path: Path) -> None:
    text = "\ufeff# of a kernel\n1.5, -0x1.8p-1 # the first\n\n1e-3\tinf #\n"
    assert parse_numbers(text.encode(), "x").tolist() == [1.5, -0.75, 1e-3, np.inf]
    with pytest.raises(RequestError, match=r"^x, line 3: .* 'two'\.$"):
        parse_numbers(b"# 1\n1\n2 two\n", "x")
    with pytest.raises(RequestError, match=r"^x, line 1: "):
        parse_numbers(b"0x1p99999", "x")
    for encoding in ("utf-16-le", "utf-16-be"):
        with pytest.raises(RequestError, match="x is in UTF-16"):
            parse_numbers("\ufeff1.5".encode(encoding), "x")


def test_a_model_may_be_given_by_its_nodes(run_main: Callable[..., Any]) -> None:
    nodes = [{"name": "loss", "op": "sum", "inputs": ["w"]}]
    request = json.dumps({"tensors": {}, "weights": {"w": [1.0, 2.0]}, "model": nodes}).encode()
    assert run_main("check", "-", given=request)[0] == 0
    assert (
        run_main("check", "-", "--set", f"model={json.dumps(nodes)}", given=b'{"tensors": {}, "weights": {"w": [1]}}')[
            0
        ]
        == 0
    )


def test_a_dash_is_standard_output(
    run_main: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    point = json.dumps({"point": {"w": POINT}}).encode()
    assert json.loads(run_main("plan", "-", "--output", "-", given=point)[1])["plan"]
    status, out, _ = run_main("plan", "-", "--points", "-", "--output", "plan", given=point)
    assert (status, out.splitlines()[1]) == (0, "0.5 -1.5 2.0")
    for both in ((), ("--output", "-")):
        status, out, err = run_main("plan", "-", "--points", "-", *both, given=point)
        assert (status, out) == (3, "")
        assert "do not both go to standard output" in err
    assert {path.name for path in tmp_path.iterdir()} == {"plan"}


def test_unexpected_exception_asks_for_a_bug_report(
    run_main: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradcheckd.command.catalogue_commands.list_models", lambda _: 1 // 0)
    status, _, err = run_main("models")
    assert status == 3
    assert err.startswith("gradcheckd: ZeroDivisionError: integer division")
    assert "bug of the client" in err.splitlines()[0]
    assert err.endswith("ZeroDivisionError: integer division or modulo by zero\n")


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("shell", "message"),
    [
        (">&-", "gradcheckd: Standard output is closed. "),
        ("> /dev/full", "gradcheckd: standard output: No space left on device"),
        ("--output /dev/full", "gradcheckd: /dev/full: No space left on device"),
    ],
)
def test_unwritable_output_is_an_error(url: str, shell: str, message: str) -> None:
    example = EXAMPLES / "reference.json"
    command = f"{sys.executable} -m gradcheckd check {example} --url {url} {shell}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


@pytest.mark.no_cover
def test_standard_input_may_be_closed(url: str) -> None:
    command = f"{sys.executable} -m gradcheckd check - --url {url} <&-"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr[:41]) == (3, "gradcheckd: Standard input is closed. Giv")


def test_an_array_of_no_section_is_refused(run_main: Callable[..., Any], tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", w1=W1)
    _, _, err = run_main("check", tmp_path / "a.npz")
    assert "an array is named tensors/... or weights/... or candidate/...; 'w1' is not" in err
    np.savez(tmp_path / "b.npz", **{"weights/w1": W1}, request="{")
    assert run_main("check", tmp_path / "b.npz")[0] == 3


def test_shapeless_tensor_is_left_for_the_service_to_refuse(run_main: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "w").write_text("1 2")
    given = b'{"tensors": {}, "weights": {"w": [1, [2]]}}'
    status, _, err = run_main("check", "-", "--candidate", tmp_path / "w", given=given)
    assert status == 3
    assert "/weights/w: ragged" in err


def test_help_says_what_the_statuses_are(run_main: Callable[..., Any]) -> None:
    for command in ((), ("check",), ("judge",)):
        status, out, _ = run_main(*command, "--help")
        assert status == 0
        assert "0 pass, 1 fail" in " ".join(out.split())


def test_closed_pipe_and_interrupt_stop_the_command(
    run_main: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    command = f"{sys.executable} -m gradcheckd models lenet --url {url} | head -c 10; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.startswith('{"model": ')
    assert done.stderr == ""

    def raise_interrupt(_: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("gradcheckd.command.catalogue_commands.list_models", raise_interrupt)
    assert run_main("models")[0] == 130


def test_a_pipe_that_is_closed_is_no_traceback(
    run_main: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def raise_broken_pipe(_: Any) -> int:
        raise BrokenPipeError

    monkeypatch.setattr("gradcheckd.command.catalogue_commands.list_models", raise_broken_pipe)
    with (tmp_path / "out").open("w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        assert main(["models"]) == 3


def test_the_bar_is_on_a_terminal_alone(url: str, tmp_path: Path) -> None:
    command = f"{sys.executable} -m gradcheckd check {EXAMPLES / 'reference.json'} --url {url} > {tmp_path / 'out'}"
    done = subprocess.run(["script", "-qec", command, "/dev/null"], capture_output=True, text=True, check=False)
    assert "16/16 evaluations" in re.sub(r"\x1b\[[\d;]*m", "", done.stdout)
    assert done.stdout.endswith("\x1b[2K"), "nothing is left of it"
    assert (tmp_path / "out").read_text().startswith("gradcheckd: pass\n")
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("", "")


def test_an_older_service_is_asked_for_the_text_by_itself(
    run_main: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "gradcheckd.command.check_commands.follow_progress",
        lambda *given: {"report": follow_progress(*given)["report"]},
    )
    assert run_main("check", EXAMPLES / "wrong_sign.json")[1].startswith("gradcheckd: fail\n")


def test_the_command_ends_with_its_status(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["gradcheckd", "check", "nothing"])
    with pytest.raises(SystemExit) as ended:
        run_command()
    assert ended.value.code == 3
    assert capsys.readouterr().err.startswith("gradcheckd: nothing: ")


def is_listening(port: int) -> bool:
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(int(line.split()[1].split(":")[1], 16) == port and line.split()[3] == "0A" for line in lines)


def test_without_an_address_the_service_runs_in_the_command(
    run_main: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    example = EXAMPLES / "wrong_sign.json"
    over_http = run_main("check", str(example))
    monkeypatch.delenv("GRADCHECKD_URL")
    status, out, err = run_main("check", str(example))
    assert (status, drop_timing_lines(out)) == (1, drop_timing_lines(over_http[1]))
    assert err == over_http[2], "the service says nothing of its own"


@pytest.mark.long
def test_a_service_is_run_for_a_block() -> None:
    with local_service.run_service() as url:
        port = int(url.rpartition(":")[2])
        assert httpx.get(f"{url}/health/ready", timeout=60).status_code == 200
    assert not is_listening(port)


def test_a_service_that_does_not_start_is_an_error_with_its_log() -> None:
    with (
        pytest.raises(GradcheckdError, match=r"(?s)was started, and ended with status.*max_checks"),
        local_service.run_service(GRADCHECKD_MAX_CHECKS="none"),
    ):
        pass


@pytest.mark.long
def test_serving_becomes_the_service() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "gradcheckd", "serve", "--port", str(port), "--workers", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, cwd=ROOT)
    try:
        assert process.stderr is not None
        assert f"gradcheckd serves on http://127.0.0.1:{port}".encode() in process.stderr.readline()
        deadline = time.monotonic() + 60
        while not is_listening(port):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=60).status_code == 200
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def test_serving_without_a_service_says_how_to_get_one(
    run_main: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_service, "_GUNICORN_CONFIG", "no.such.service")
    status, _, err = run_main("serve")
    assert status == 3
    assert "make serve" in err


DEAF = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGQUIT, {quit})
print(flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(("quit", "status"), [("lambda *_: sys.exit(7)", 7), ("signal.SIG_IGN", -signal.SIGKILL)])
def test_a_service_that_does_not_stop_is_stopped(monkeypatch: pytest.MonkeyPatch, quit: str, status: int) -> None:
    monkeypatch.setattr(local_service, "_STOP_TIMEOUT_SECONDS", 0.5)
    with subprocess.Popen([sys.executable, "-c", DEAF.format(quit=quit)], stdout=subprocess.PIPE) as deaf:
        assert deaf.stdout is not None
        deaf.stdout.readline()
        local_service._stop_process(deaf)
        assert deaf.returncode == status


TEXT = "# a comment\nh = mul(w, 2)\nloss = sum(h, dim=0)"


def test_model_may_be_given_as_text(run_main: Callable[..., Any]) -> None:
    request = {"tensors": {}, "weights": {"w": [1.0, 2.0]}, "model": TEXT}
    assert run_main("check", "-", given=json.dumps(request).encode())[0] == 0
    _, _, errors = run_main("check", "-", given=json.dumps(request | {"model": "loss = total(w)"}).encode())
    assert "/model: line 1, column 8: unknown op 'total'" in errors


NODES: list[dict[str, Any]] = [
    {"name": "my h", "op": "layer_norm", "inputs": {"input": "w", "bias": "b.0"}, "normalized_shape": [2]},
    {"name": "c", "op": "cat", "inputs": [["my h", "w"]], "dim": -1},
    {"name": "e", "op": "einsum", "inputs": ["c", "c"], "equation": "i,i->i"},
    {"name": "n", "op": "einsum", "inputs": [0.5, "e"], "equation": ",i->i"},
    {"name": "m", "op": "cat", "inputs": ["n", "e"]},
    {"name": "loss", "op": "sum", "inputs": ["m"], "keepdim": False},
]


@pytest.mark.parametrize("model", [NODES, {"nodes": NODES}])
def test_show_writes_the_text_that_the_service_reads(model: Any, run_main: Callable[..., Any]) -> None:
    weights = {"w": [1.0, 3.0], "b.0": [0.5, 1.0]}
    request = {"tensors": {}, "weights": weights, "model": model}
    status, text, _ = run_main("show", "-", given=json.dumps(request).encode())
    assert status == 0
    assert text.split("\n")[:2] == [
        "`my h` = layer_norm(input=w, bias=b.0, normalized_shape=[2])",
        "c = cat([`my h`, w], dim=-1)",
    ]
    reports = [
        json.loads(run_main("check", "-", "--format", "json", given=json.dumps(request | {"model": each}).encode())[1])
        for each in (model, text)
    ]
    assert reports[0]["model"] == reports[1]["model"]
    assert reports[0]["outcome"] == "pass"


def test_show_writes_a_text_and_a_preset(run_main: Callable[..., Any]) -> None:
    request: dict[str, Any] = {"tensors": {}, "weights": {"w": 1.0}}
    shown = [
        run_main("show", "-", given=json.dumps(fields).encode())[1]
        for fields in (request | {"model": TEXT}, request | {"model": "lenet"}, request)
    ]
    assert shown[0] == TEXT + "\n"
    assert "max_pool2d(" in shown[1]
    assert shown[2].startswith("C1 = conv2d(x, w1)\nL1 = flatten(C1)\n")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("lenett", "there is no model 'lenett'"),
        ([1], "each an object with name, op and inputs; [1] is none"),
        (3, "3 is"),
    ],
)
def test_show_refuses_another_model(model: Any, words: str, run_main: Callable[..., Any]) -> None:
    status, _, errors = run_main("show", "-", given=json.dumps({"tensors": {}, "weights": {}, "model": model}).encode())
    assert status == 3
    assert words in errors
