"""A model of ONNX in the client and in the command: imported by the service, then checked."""

import json

import numpy as np
import pytest

import gradcheckd
from gradcheckd.command import main
from tests.service.checks.importing.onnx_files import FLOAT, make_classifier, make_file, node

pytestmark = pytest.mark.usefixtures("in_process")


@pytest.fixture
def in_process(monkeypatch):
    monkeypatch.delenv("GRADCHECKD_URL", raising=False)


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(make_classifier())
    return file


def test_an_imported_request_is_that_of_a_check(path):
    request = gradcheckd.from_onnx(path, seed=3)
    assert set(request.weights) == {"table", "fc1.weight", "fc1.bias", "fc2.weight"}
    assert request.note.endswith("the values of ids, labels are random, of seed 3")
    report = gradcheckd.check(**request)
    assert report.outcome == "pass"
    gradients = {name: gradient.analytic for name, gradient in report.gradients.items()}
    assert gradcheckd.check(**request, candidate=gradients).outcome == "pass"
    wrong = gradients | {"fc1.bias": 1.001 * np.asarray(gradients["fc1.bias"])}
    assert gradcheckd.check(**request, candidate=wrong).outcome == "fail"


def test_errors_are_those_of_the_service(tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(make_file([node("Frobnicate", "x")], {"x": (FLOAT, [2])}))
    with pytest.raises(gradcheckd.ProblemError, match="Frobnicate is no operator of ONNX"):
        gradcheckd.from_onnx(file)
    with pytest.raises(gradcheckd.RequestError, match="cannot be read"):
        gradcheckd.from_onnx(tmp_path / "absent.onnx")


@pytest.mark.parametrize("name", ["model.onnx", "model.bin"])
def test_the_command_checks_a_model_that_it_knows_by_its_name_or_its_first_byte(path, capsys, name):
    file = path.rename(path.parent / name)
    assert main(["check", str(file), "--format", "json"]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["outcome"] == "pass"
    assert "the values of ids, labels are random, of seed 0" in output.err


def test_a_request_takes_values_of_one_s_own(path):
    request = gradcheckd.from_onnx(path)
    assert (request.node_count, len(request.with_respect_to)) == (6, 4)
    own = request.with_values({"labels": np.array([0, 2, 1, 1])})
    losses = [gradcheckd.check(**each).loss.analytic for each in (request, own)]
    assert losses[0] != losses[1]


def test_the_command_shows_the_model_of_a_file(path, capsys):
    assert main(["show", str(path)]) == 0
    output = capsys.readouterr()
    assert output.out.splitlines()[2] == "fc1.Gemm = linear(mean, fc1.weight, fc1.bias)"
    assert "the values of ids, labels are random, of seed 0" in output.err
