"""The summary of a graph check: where our own gradients disagree, then the verdicts."""

from collections.abc import Mapping, Sequence

from schemas.problem_details import escape_name
from service.checks.common.summary import join_names, name_units, summarize
from service.numerics.verdict.disagreement import Partition
from service.numerics.verdict.gradient_verdict import GradientVerdict
from service.numerics.verdict.outcome import Outcome


def summarize_check(
    outcome: Outcome,
    verdicts: Mapping[str, GradientVerdict],
    disagreements: Mapping[str, Sequence[Partition]],
    names_without_candidate: Sequence[str],
) -> str:
    """Sum up a check of a model.

    Parameters
    ----------
    outcome
        Outcome of the check.
    verdicts
        Verdicts by name.
    disagreements
        Partitions of our own gradients by name, where they disagree. They come first.
    names_without_candidate
        Names of the own gradients that were judged beside candidates for other names.
    """
    sentences = [_describe_disagreements(disagreements, verdicts)] if disagreements else []
    sentences.append(summarize(outcome, verdicts))
    if names_without_candidate:
        names = join_names(names_without_candidate)
        sentences.append(f"No candidate was given for {names}: there our own gradients were judged.")
    return " ".join(sentences)


def _describe_disagreements(
    disagreements: Mapping[str, Sequence[Partition]], verdicts: Mapping[str, GradientVerdict]
) -> str:
    name, (partition, *_) = next(iter(disagreements.items()))
    verdict = verdicts[name]
    total = (
        len(verdict.direction_results)
        if verdict.direction_results is not None
        else verdict.element_count - verdict.unexamined_count
    )
    omission_note = f" (and in {len(disagreements) - 1} other)" if len(disagreements) > 1 else ""
    return (
        f"Our own gradients disagree: at {partition.element_count} of {total} {name_units([verdict])} of "
        f"{escape_name(name)}{omission_note}, {_describe_partition(partition)}. This is a bug of this service, so no "
        "candidate fails there: please report it with the request."
    )


def _describe_partition(partition: Partition) -> str:
    dissenting_names = _join_source_names(partition.dissenting)
    if partition.agreeing:
        verb = "does" if len(partition.dissenting) == 1 else "do"
        return f"{_join_source_names(partition.agreeing)} agree and {dissenting_names} {verb} not"
    if len(partition.dissenting) == 2:
        return f"{dissenting_names} differ and the finite difference cannot tell which is right"
    return f"{dissenting_names} all disagree"


def _join_source_names(names: Sequence[str]) -> str:
    *first, last = (name.replace("_", " ") for name in names)
    return f"{', '.join(first)} and {last}" if first else last
