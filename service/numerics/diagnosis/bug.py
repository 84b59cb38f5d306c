"""The catalogue of bugs.

One entry a bug, which recognises the bug and injects it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from service.numerics.core.batching import Array
from service.numerics.diagnosis.context import DiagnosisContext
from service.numerics.diagnosis.matching import BugHypothesis
from service.numerics.ops.op import Gradients, OpBug

WrongBackward = Callable[..., Gradients]


class BugBase(ABC):
    """An entry of the catalogue.

    Attributes
    ----------
    name
        Name of the bug on the wire.
    signature
        Formula or sentence for a candidate with the bug, of the candidate c and the right gradient g.
    """

    name: ClassVar[str]
    signature: ClassVar[str]


class GradientBug(BugBase):
    """A bug of one tensor's gradient."""

    @abstractmethod
    def iterate_hypotheses(self, context: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        """Yield the gradients that the bug may have made for a name's candidate."""

    @abstractmethod
    def inject(self, context: DiagnosisContext, name: str) -> Iterator[Mapping[str, Array]]:
        """Yield candidates with the bug.

        A candidate holds the name, and others if the bug takes several.
        """


class SimulatedBug(GradientBug):
    """A bug that its simulation recognises.

    Its wrong gradient does not depend on the candidate.
    """

    @abstractmethod
    def simulate_gradients(self, context: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        """Yield the gradients with respect to a name that the bug makes."""

    def iterate_hypotheses(self, context: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        """Yield the simulated gradients; see `GradientBug`."""
        return self.simulate_gradients(context, name)

    def inject(self, context: DiagnosisContext, name: str) -> Iterator[Mapping[str, Array]]:
        """Yield the simulated gradients as candidates; see `GradientBug`."""
        return ({name: hypothesis.gradient} for hypothesis in self.simulate_gradients(context, name))


@dataclass(frozen=True, eq=False)
class BackwardOverride:
    """A backward pass that is wrong at some nodes.

    Attributes
    ----------
    bug_name
        Name of the bug.
    wrong_backward_by_node
        Function that makes the wrong results of a node from its right ones, by name of the node:
        `wrong(right, gradient, output, *inputs)`, all of one tile.
    describe_bug
        Returns a clause in the past tense for what was done, and where: "the mask was left out".
    describe_share
        Returns a noun phrase for the share that is lost, if the override loses one share of a sum: the share may have
        come with a factor instead.
    op_bug
        The bug of the op of each node; None for another bug.
    """

    bug_name: str
    wrong_backward_by_node: Mapping[str, WrongBackward]
    describe_bug: Callable[[], str]
    describe_share: Callable[[], str] | None = None
    op_bug: OpBug | None = None


class BackwardBug(BugBase):
    """A bug of the backward pass, which all gradients behind it inherit."""

    @abstractmethod
    def iterate_overrides(self, context: DiagnosisContext, names: Sequence[str]) -> Iterator[BackwardOverride]:
        """Yield the backward passes with the bug that show in a name's gradient."""


GRADIENT_BUGS: dict[str, GradientBug] = {}
"""Bugs of single gradients, in the order of the search."""

BACKWARD_BUGS: dict[str, BackwardBug] = {}
"""Bugs of the backward pass, in the order of the search; the bugs of ops stand beside these."""

GradientBugT = TypeVar("GradientBugT", bound=GradientBug)
BackwardBugT = TypeVar("BackwardBugT", bound=BackwardBug)


def register_gradient_bug(cls: type[GradientBugT]) -> type[GradientBugT]:
    """Enter a bug of single gradients into the catalogue."""
    GRADIENT_BUGS[cls.name] = cls()
    return cls


def register_backward_bug(cls: type[BackwardBugT]) -> type[BackwardBugT]:
    """Enter a bug of the backward pass into the catalogue."""
    BACKWARD_BUGS[cls.name] = cls()
    return cls
