"""The node cases of ONNX's backend test as imports: `make onnx`.

Each case whose operators have a derivative is imported with its inputs as initialisers, and the values of its outputs
stand beside those that the case expects. `--cases` names a part of the cases, of which nothing is kept.
"""

from benchmarks import one_thread  # isort: skip # noqa: F401 - before anything that computes

import argparse
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks import saved_results
from benchmarks.machine_info import describe_machine, list_versions
from benchmarks.onnx_case_choice import NOT_DIFFERENTIABLE, choose_cases
from benchmarks.onnx_case_runs import CaseResult, NodeCase, run_case
from benchmarks.tables import describe_origin, write_table

NAME = "onnx_cases"
_REASONS = (
    ("nothing to judge: no elements", r"no elements|without elements|output with elements"),
    ("elements dropped at random", r"drops elements at random"),
    ("Scan of opset 8", r"^Scan .*below 9"),
)


def collect_cases() -> list[NodeCase]:
    """Collect all cases with numbers; each operator's module makes its own."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases: Iterable[Any] = collect_testcases(None)
    return [
        NodeCase(case.name, case.model, list(case.data_sets[0][0]), list(case.data_sets[0][1]))
        for case in cases
        if case.data_sets
    ]


def find_reason(result: CaseResult) -> str:
    """Return the reason of a refusal: the missing operator, or what else is missing."""
    for reason, pattern in _REASONS:
        if any(re.search(pattern, detail) for detail in result.refusal):
            return reason
    return "outputs without a derivative" if result.refusal[0].startswith("no output") else result.refusal[0].split()[0]


def count_results(results: Sequence[CaseResult], total: int) -> dict[str, Any]:
    """Return the counts for a document."""
    refused = [result for result in results if not result.is_imported]
    wrong = {
        result.name: f"{max(result.errors.values(), default=0):.2g}"
        for result in results
        if result.is_imported and not result.agrees and not result.agrees_with_reference
    }
    return {
        "cases": total,
        "differentiable": len(results),
        "imported": len(results) - len(refused),
        "agreeing": sum(result.agrees for result in results),
        "agreeing_with_reference": [result.name for result in results if result.agrees_with_reference],
        "differing": wrong,
        "missing": dict(Counter(map(find_reason, refused)).most_common()),
        "refused": {result.name: result.refusal[0][:200] for result in refused},
    }


def write_markdown(document: Mapping[str, Any]) -> str:
    """Write the table, and what is missing."""
    total = document["differentiable"]
    rows = [
        ["node cases", f"{document['cases']}", ""],
        ["of differentiable operators", f"{total}", "100 %"],
        *(
            [label, f"{document[key]}", f"{100 * document[key] / total:.1f} %"]
            for label, key in (("imported", "imported"), ("with the expected values", "agreeing"))
        ),
        [
            "with those of the reference evaluator",
            f"{len(document['agreeing_with_reference'])}",
            f"{100 * len(document['agreeing_with_reference']) / total:.1f} %",
        ],
    ]
    missing = [[reason, f"{count}"] for reason, count in document["missing"].items()]
    differing = [
        f"- Imported with other values, and their error in units of that: `{name}`, {error}."
        for name, error in document["differing"].items()
    ]
    return "\n".join(
        [
            write_table(["ONNX", "count", "share"], rows),
            "",
            write_table(["missing", "cases"], missing),
            "",
            "- A case counts if it goes from floats to floats, and its operator has a derivative. Left out are:",
            *(f"  - {reason};" for reason in NOT_DIFFERENTIABLE),
            "  - cases at NaN or at infinity, masks aside.",
            "- Expected values agree to 1e-10 in float64, 1e-5 in float32, 2e-3 in float16 and 2e-2 in bfloat16. Minus",
            "  infinity behind a mask, as an output, agrees with -1e30, which stands for it.",
            *(
                f"- `{name}` expects values of four digits; those of ONNX's reference evaluator are as imported."
                for name in document["agreeing_with_reference"]
            ),
            *differing,
            "",
            describe_origin(document),
            "",
        ]
    )


def main() -> None:
    """Run the cases, and keep the results of all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="*", default=[], help="parts of names of cases")
    arguments = parser.parse_args()
    cases = collect_cases()
    chosen = choose_cases(cases)
    chosen = [case for case in chosen if not arguments.cases or any(part in case.name for part in arguments.cases)]
    document = count_results([run_case(case) for case in chosen], len(cases))
    document["machine"], document["versions"] = describe_machine(), list_versions(("onnx", "numpy"))
    text = write_markdown(document)
    print(text)
    if not arguments.cases:
        saved_results.save_results(NAME, document, text, text)


if __name__ == "__main__":
    main()
