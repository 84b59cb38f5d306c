"""Judgements of all products of a request, output by output."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from schemas.outputs import DotTestEntry
from schemas.plan import JudgeRequest
from schemas.problem_details import escape_name
from schemas.tensor import Tensor
from service.checks.blackbox.derivatives import scatter_derivatives
from service.checks.blackbox.dot_tests import build_dot_test
from service.checks.blackbox.evaluation_plan import EvaluationPlan
from service.checks.blackbox.missing_values import count_missing_values, explain_missing_base, mark_incomplete_points
from service.checks.blackbox.outputs import stack_tangents
from service.checks.blackbox.products import GivenProducts
from service.checks.common.candidate_precision import choose_precision
from service.numerics.blackbox.candidate_judge import TensorJudgement
from service.numerics.blackbox.dot_test import ProductPair
from service.numerics.blackbox.first_look import combine_looks, suffices
from service.numerics.blackbox.layout import BASE_REPEATS
from service.numerics.blackbox.output_judge import OutputJudge, ProductJudgement
from service.numerics.core.batching import Array
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.core.precision import PRECISIONS, Precision
from service.numerics.verdict.gradient_verdict import GradientVerdict
from service.numerics.verdict.reference import Tolerance

_Judgement = TypeVar("_Judgement", TensorJudgement, ProductJudgement)


@dataclass
class OutputJudgements:
    """Judgements and derivatives, by the names of the report.

    Attributes
    ----------
    gradients
        Vector-Jacobian products, by output/tensor.
    jacobians
        Jacobians, by output/tensor.
    directional
        Jacobian-vector products, by output.
    missing_counts
        Points without a value, by the name of the verdict.
    dot_tests
        Tests of vector-Jacobian products against Jacobian-vector products.
    derivatives
        Derivatives and their bounds, (elements of the output, elements of the tensor), by output/tensor.
    noise
        Largest standard deviation of an evaluation; NaN where nothing is known of it.
    is_deterministic
        True if all outputs were the same each time at the base.
    """

    gradients: dict[str, TensorJudgement] = field(default_factory=dict[str, TensorJudgement])
    jacobians: dict[str, ProductJudgement] = field(default_factory=dict[str, ProductJudgement])
    directional: dict[str, ProductJudgement] = field(default_factory=dict[str, ProductJudgement])
    missing_counts: dict[str, int] = field(default_factory=dict[str, int])
    dot_tests: list[DotTestEntry] = field(default_factory=list[DotTestEntry])
    derivatives: dict[str, tuple[Array, Array]] = field(default_factory=dict[str, tuple[Array, Array]])
    noise: float = 0.0
    is_deterministic: bool = True

    def suffices(self, sought_error: float) -> bool:
        """Tell whether these judgements of a first look are enough."""
        judgements = [*self.gradients.values(), *self.jacobians.values(), *self.directional.values()]
        return all(suffices(judgement, sought_error) for judgement in judgements)

    def combine_looks(self, first: "OutputJudgements", sought_error: float) -> "OutputJudgements":
        """Return the judgements of a procedure that begins with a first look."""

        def combine(
            judgements: Mapping[str, _Judgement], first_judgements: Mapping[str, _Judgement]
        ) -> dict[str, _Judgement]:
            return {
                name: combine_looks(judgement, first_judgements[name], sought_error)
                for name, judgement in judgements.items()
            }

        return replace(
            self,
            gradients=combine(self.gradients, first.gradients),
            jacobians=combine(self.jacobians, first.jacobians),
            directional=combine(self.directional, first.directional),
        )

    @property
    def verdicts(self) -> dict[str, GradientVerdict]:
        """Return all verdicts by name."""
        judged = {**self.gradients, **self.jacobians, **self.directional}
        return {name: judgement.verdict for name, judgement in judged.items()}


def judge_products(
    request: JudgeRequest,
    plan: EvaluationPlan,
    products: GivenProducts,
    values: Mapping[str, Array],
    tolerance: Tolerance | None,
) -> OutputJudgements:
    """Judge all products of a request.

    Parameters
    ----------
    request
        Request of valid form.
    plan
        Plan with outputs.
    products
        Products of the request.
    values
        Values of the outputs, (evaluations, ...), by name.
    tolerance
        Tolerance that replaces the allowance of a candidate, or None.
    """
    judgements = OutputJudgements()
    for output in iterate_interruptibly(values):
        _OneOutput(request, plan, products, tolerance, output, values[output]).judge_into(judgements)
    return judgements


@dataclass(frozen=True)
class _OneOutput:
    """One output with its products, and how they are to be judged."""

    request: JudgeRequest
    plan: EvaluationPlan
    products: GivenProducts
    tolerance: Tolerance | None
    output: str
    values: Array

    def judge_into(self, judgements: OutputJudgements) -> None:
        """Judge the products of this output, and add the judgements to those of others."""
        judge = OutputJudge(self.plan.layout, self.values, self.request.relative_error, self.tolerance)
        base = self.values[:BASE_REPEATS]
        judgements.is_deterministic &= bool(((base == base[0]) | ~np.isfinite(base)).all())
        noises = [0.0, judgements.noise]
        if self.output in self.products.vjp:
            noises += self._judge_gradients(judge, judgements)
        if self.output in self.products.jacobian:
            noises += [self._judge_jacobian(judge, judgements, name) for name in self.plan.layout.points]
        if self.output in self.products.jvp:
            noises.append(self._judge_directional(judge, judgements))
        if self.output in self.products.vjp and self.output in self.products.jvp:
            judgements.dot_tests += [self._run_dot_test(name) for name in self.plan.layout.points]
        if self.request.include:
            noises += [self._differentiate(judge, judgements, name) for name in self.plan.layout.points]
        judgements.noise = float(np.nanmax(noises))

    def _judge_gradients(self, judge: OutputJudge, judgements: OutputJudgements) -> list[float]:
        given = self.products.vjp[self.output]
        gradients = {name: tensor.array for name, tensor in given.items()}
        precisions = {name: self._choose_precision(name, tensor) for name, tensor in given.items()}
        judged = judge.judge_gradients(self.plan.cotangents[self.output], gradients, precisions)
        for name, judgement in judged.items():
            verdict = self._explain(judgements, f"{self.output}/{name}", [name], judgement.verdict)
            judgements.gradients[f"{self.output}/{name}"] = replace(judgement, verdict=verdict)
        return [float(judgement.noise.deviation) for judgement in judged.values()]

    def _judge_jacobian(self, judge: OutputJudge, judgements: OutputJudgements, name: str) -> float:
        tensor = self.products.jacobian[self.output][name]
        judgement = judge.judge_jacobian(name, tensor.array, self._choose_precision(name, tensor))
        verdict = self._explain(judgements, f"{self.output}/{name}", [name], judgement.verdict)
        judgements.jacobians[f"{self.output}/{name}"] = replace(judgement, verdict=verdict)
        return judgement.noise

    def _judge_directional(self, judge: OutputJudge, judgements: OutputJudgements) -> float:
        tensor = self.products.jvp[self.output]
        judgement = judge.judge_products(tensor.array, self._choose_directional_precision(tensor))
        verdict = self._explain(judgements, self.output, [*self.plan.layout.points], judgement.verdict)
        judgements.directional[self.output] = replace(judgement, verdict=verdict)
        return judgement.noise

    def _differentiate(self, judge: OutputJudge, judgements: OutputJudgements, name: str) -> float:
        difference, layout = judge.differentiate(name), self.plan.layout
        judgements.derivatives[f"{self.output}/{name}"] = scatter_derivatives(
            layout.lines[name], layout.points[name].values.size, difference.derivatives
        )
        return float(np.nanmax(difference.noise.deviation, initial=0.0))

    def _explain(
        self, judgements: OutputJudgements, verdict_name: str, names: list[str], verdict: GradientVerdict
    ) -> GradientVerdict:
        """Count the points without a value, and tell of them where they may be the reason."""
        subject = f"The output {escape_name(self.output)}"
        missing = count_missing_values(self.plan.layout, names, mark_incomplete_points(self.values), subject)
        judgements.missing_counts[verdict_name] = missing.missing_count
        return explain_missing_base(missing.explain(verdict), self.output, self.values)

    def _choose_precision(self, name: str, tensor: Tensor) -> Precision:
        return choose_precision(tensor, self.request.candidate_dtype, PRECISIONS[self.plan.datatypes[name].name])

    def _choose_directional_precision(self, tensor: Tensor) -> Precision:
        """Return the arithmetic of products that depend on all tensors: by default the least precise one."""
        precisions = [PRECISIONS[datatype.name] for datatype in self.plan.datatypes.values()]
        least = min(precisions, key=_get_digits)
        return choose_precision(tensor, self.request.candidate_dtype, least)

    def _run_dot_test(self, name: str) -> DotTestEntry:
        layout, vjp, jvp = self.plan.layout, self.products.vjp[self.output][name], self.products.jvp[self.output]
        first = sum(len(layout.lines[other]) for other in list(layout.points)[: layout.tensor_positions[name]])
        rows = jvp.array[first : first + len(layout.lines[name])].astype(np.float64)
        base = self.values[0].ravel()
        precisions = [self._choose_precision(name, vjp), self._choose_directional_precision(jvp)]
        pair = ProductPair(
            cotangent=self.plan.cotangents[self.output].ravel(),
            base_values=np.where(np.isfinite(base), base, 0.0),
            gradient=vjp.array.astype(np.float64).ravel(),
            products=rows.reshape(len(rows), -1).T,
            precision=min(precisions, key=_get_digits),
        )
        return build_dot_test(layout, self.output, name, pair, stack_tangents(layout, name), self.tolerance)


def _get_digits(precision: Precision) -> int:
    return precision.significand_bits
