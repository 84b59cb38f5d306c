"""Trials: tests that take samples at length, of problems, bytes or slow clients, rather than state one case.

`make test` runs a fixed tenth of them and `make test-all` runs the others too, once each. A test is a trial by the
table below or by `@pytest.mark.trial`; `pytest --trials=tenth` and `--trials=rest` select as these two commands do, and
plain `pytest` runs all.

A property test draws its own samples: `make test` gives it a tenth of its examples, `make test-all` then all of them.
"""

import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Literal, get_args

import pytest
from _pytest.mark import ParameterSet

Selection = Literal["all", "tenth", "rest"]
SELECTIONS: tuple[Selection, ...] = get_args(Selection)
TENTH = 10
"""Consecutive trials of a file, one of which is in the tenth."""
LEFT_OUT = ("installs", "long")
"""Markers of tests that `make test` leaves to `make test-all` as a whole."""

TRIALS: dict[str, str] = {
    "tests/browser/test_page.py": "a page in a browser, at several widths and schemes, seconds each",
    "tests/client/test_jax.py::test_a_wrong_second_derivative": "the same, in 32 and 64 bits",
    "tests/client/test_jax.py::test_right": "functions of every form, in 32 and 64 bits",
    "tests/client/test_jax.py::test_wrong_products": "factors, in 32 and 64 bits",
    "tests/client/test_operator_harness.py::test_each_bug_fails": "every bug of an operator, in turn",
    "tests/client/test_operator_harness.py::test_right_operators": "every operator, in turn",
    "tests/client/torch_dropin/test_gradcheck.py::test_planted_error": "every error and shape, in turn",
    "tests/client/torch_dropin/test_layouts.py::test_wrong_gradient_of_a_sparse": "every layout, in turn",
    "tests/fuzz/": "requests and bytes at random",
    "tests/integration/": "slow and broken clients and workers, most on a server of their own",
    "tests/service/checks/blackbox/test_looks.py::test_a_failure_at_the_first_look": "sixty networks at random",
    "tests/service/checks/blackbox/test_magnitudes.py": "losses and points of every magnitude",
    "tests/service/checks/graph/test_memory_estimates.py": "memory of the largest checks, in processes of their own",
    "tests/service/checks/graph/test_work_estimates.py": "counts of work of every op, case and preset",
    "tests/service/checks/graph/test_repeated_numbers.py": "models that compute a number 40,000 times",
    "tests/service/checks/graph/test_suggestions.py::test_suggested_size_fits": "sizes that are suggested, computed",
    "tests/service/checks/test_bugs.py::test_check_of_a_planted_bug": "every bug of a model",
    "tests/service/http/body/test_json_parser.py::test_memory_estimate": "bodies of many forms, each in a process",
    "tests/service/http/response/test_long_names.py": "every place of a body, with a long name",
    "tests/service/numerics/blackbox/test_alarms.py": "right and wrong gradients at random",
    "tests/service/numerics/blackbox/test_candidate_judge.py": "gradients at random, on losses with noise",
    "tests/service/numerics/blackbox/test_central_derivatives.py": "bounds of smooth losses, in every arithmetic",
    "tests/service/numerics/blackbox/test_consistent_lines.py": "singular and smooth losses at random",
    "tests/service/numerics/blackbox/test_convergence.py::test_bounds_beside_an_edge": "edges at random",
    "tests/service/numerics/blackbox/test_line_derivatives.py": "bounds of smooth losses, on lines at random",
    "tests/service/numerics/blackbox/test_networks.py": "networks at random, beside kinks",
    "tests/service/numerics/blackbox/test_noise.py::test_known_noise": "noise at random, two hundred times each",
    "tests/service/numerics/blackbox/test_offset_losses.py": "functions beside constants at random",
    "tests/service/numerics/blackbox/test_one_sided_extrapolation.py::test_a_smooth_loss": "thousands of phases",
    "tests/service/numerics/blackbox/test_promises.py::test_a_float32": "losses in two arithmetics, two hundred each",
    "tests/service/numerics/blackbox/test_scattered_values.py::test_bounds_hold_wherever": "missing values at random",
    "tests/service/numerics/diagnosis/bugs/test_multipliers.py::test_number_outside": "every multiplier of every op",
    "tests/service/numerics/diagnosis/bugs/test_multipliers.py::test_wrong_factor": "every multiplier of every op",
    "tests/service/numerics/diagnosis/bugs/test_truncated_backpropagation.py::test_back": "lengths of recurrences",
    "tests/service/numerics/gradients/finite_difference/test_directional.py::test_bounds_hold": "every family",
    "tests/service/numerics/gradients/finite_difference/test_linear_pullback.py": "every op and case",
    "tests/service/numerics/gradients/finite_difference/test_magnitudes.py": "inputs of many magnitudes",
    "tests/service/numerics/ops/test_vector_norm.py::test_small_triplets": "triplets of many sizes",
    "tests/service/numerics/verdict/test_directional.py::test_miss_probability_is_never_exceeded": "a thousand seeds",
    "tests/service/test_bounds.py::test_planned_points": "points at random, within bounds",
    "tests/service/test_timeouts.py::test_whenever": "every kind of check, ended at 35 times",
    "tests/test_against_pytorch.py": "attributes and dtypes of losses",
    "tests/test_bounds.py": "every family of problems, on fixed seeds",
    "tests/test_bugs_by_hand.py": "bugs written by hand",
    "tests/test_rounding_allowances.py": "every op and dtype, over sixteen decades",
    "tests/test_every_bug.py": "every bug in every preset",
    "tests/test_every_op.py": "every case of every op, with and without planted errors",
    "tests/test_false_alarms.py": "a hundred problems of each cell",
    "tests/test_few_evaluations.py": "a hundred functions of each cell, with planted errors",
    "tests/test_fused_ops.py": "fused ops on many inputs",
    "tests/test_lower_precision.py": "dtypes and models",
    "tests/test_operator_database.py::test_planted_errors": "every kind of judgement, in turn",
    "tests/test_detectable_errors.py": "problems and errors at random",
    "tests/test_explanations_of_random_graphs.py": "bugs in random graphs",
    "tests/test_tie_judgement.py": "choices of subgradients at random",
    "tests/test_exact_gradients.py": "every op, in 80 digits",
}
"""The start of a node id (a folder, a file or a test), and the samples that its tests take."""

IN_FULL: dict[str, str] = {
    "tests/integration/test_bystanders.py": "it starts no server",
    "tests/integration/test_unreadable_requests.py": "its tests share one server",
    "tests/integration/test_service.py::test_reference_example": "the first thing that a service must do",
    "tests/test_every_op.py::test_the_three_routes_agree": "each op has its basic cases in `make test`",
    "tests/test_every_op.py::test_forward_agrees_with_the_shape_rule": "so has its forward pass",
}
"""Exceptions from the table: they run in full in both commands, and why."""

LONG_FILES: dict[str, str] = {
    "tests/fuzz/test_schema_keywords.py": "it makes its tests from our OpenAPI document, a second in each process",
}
"""Files that `make test` does not even collect, since all their tests bear a marker of `LEFT_OUT`, and why."""


def is_collected(path: str, selection: Selection) -> bool:
    """Return whether a command collects a file."""
    return selection != "tenth" or path not in LONG_FILES


def split_count(count: int) -> list[ParameterSet]:
    """Return the cases of a test that takes so many samples: a tenth in `make test`, all of them in `make test-all`."""
    return [
        pytest.param(count // TENTH, id="a tenth"),
        pytest.param(count, id="all", marks=pytest.mark.long),
    ]


def mark_trials(items: Iterable[pytest.Item]) -> None:
    """Mark each test of the table as a trial."""
    beginnings, in_full = tuple(TRIALS), tuple(IN_FULL)
    for item in items:
        if item.nodeid.startswith(beginnings) and not item.nodeid.startswith(in_full):
            item.add_marker("trial")


def _compute_checksum(text: str) -> int:
    return zlib.crc32(text.encode())


def choose_tenth(node_ids: Iterable[str]) -> set[str]:
    """Choose, of each ten consecutive trials of a file, the one whose node id has the smallest checksum.

    So the tenth is the same everywhere, and spread evenly over the ops and cases that a file goes through in turn. Of
    fewer than ten at the end of a file one is chosen where the checksum of the file says so: of three in three files of
    ten.
    """
    files: dict[str, list[str]] = defaultdict(list)
    for node_id in node_ids:
        files[node_id.partition("::")[0]].append(node_id)
    return {
        min(names[start : start + TENTH], key=_compute_checksum)
        for file, names in files.items()
        for start in range(0, len(names), TENTH)
        if _compute_checksum(file) % TENTH < len(names) - start
    }


def choose_profile(selection: Selection, environment: Mapping[str, str]) -> str:
    """Choose the profile of the property tests: that of the environment, or that of the selection."""
    return environment.get("HYPOTHESIS_PROFILE", "tenth" if selection == "tenth" else "fixed")


def select(items: list[pytest.Item], selection: Selection) -> list[pytest.Item]:
    """Return the tests to run: all, those of `make test`, or those that it leaves.

    It leaves tests that bear a marker of `LEFT_OUT`, too. Both commands run each property test that is not left.
    """
    if selection == "all":
        return items
    trials = {item.nodeid for item in items if item.get_closest_marker("trial")}
    left = trials - choose_tenth(item.nodeid for item in items if item.nodeid in trials)
    left |= {item.nodeid for item in items if any(map(item.get_closest_marker, LEFT_OUT))}
    if selection == "tenth":
        return [item for item in items if item.nodeid not in left]
    return [item for item in items if item.nodeid in left or item.get_closest_marker("hypothesis")]
