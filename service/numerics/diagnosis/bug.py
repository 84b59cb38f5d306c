"""What a fault is, and the catalogue of those there are: one entry a bug, which injects and recognises itself."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from service.numerics.core.batching import Array
from service.numerics.diagnosis.context import DiagnosisContext
from service.numerics.diagnosis.matching import BugHypothesis
from service.numerics.ops.op import Gradients

WrongBackward = Callable[..., Gradients]


class BugBase(ABC):
    """An entry of the catalogue.

    Attributes
    ----------
    name
        On the wire.
    signature
        What a candidate with it looks like.
    """

    name: ClassVar[str]
    signature: ClassVar[str]


class GradientBug(BugBase):
    """A bug of one tensor's gradient."""

    @abstractmethod
    def hypotheses(self, scene: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        """What it may have made of the gradient with respect to a name, given what the client sent."""

    @abstractmethod
    def inject(self, scene: DiagnosisContext, name: str) -> Iterator[Mapping[str, Array]]:
        """Candidates with the bug: of the name, and of others where it takes several."""


class SimulatedBug(GradientBug):
    """A bug whose work does not depend on what was sent: it is recognised by what it makes."""

    @abstractmethod
    def simulate_gradients(self, scene: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        """What it makes of the gradient with respect to a name."""

    def hypotheses(self, scene: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        """See `Fault`."""
        return self.simulate_gradients(scene, name)

    def inject(self, scene: DiagnosisContext, name: str) -> Iterator[Mapping[str, Array]]:
        """See `Fault`."""
        return ({name: each.gradient} for each in self.simulate_gradients(scene, name))


@dataclass(frozen=True, eq=False)
class BackwardOverride:
    """A backward pass that is wrong at some nodes.

    Attributes
    ----------
    fault
        Name of the mistake.
    overrides
        What makes wrong results of the right ones of a node, by name: `wrong(right, gradient, output, *inputs)`, all
        of one tile.
    text
        Says what was done, and where, as a clause.
    share
        Says what was lost, where that is one share of a sum: it may have come with a factor instead.
    """

    bug_name: str
    wrong_backward_by_node: Mapping[str, WrongBackward]
    describe_bug: Callable[[], str]
    describe_share: Callable[[], str] | None = None


class BackwardBug(BugBase):
    """A bug of the backward pass, which all gradients behind it inherit."""

    @abstractmethod
    def backward_overrides(self, scene: DiagnosisContext, names: Sequence[str]) -> Iterator[BackwardOverride]:
        """Ways to make it, as far as they show in the gradients of the names."""


GRADIENT_BUGS: dict[str, GradientBug] = {}
"""Bugs of single gradients, in the order in which they are looked for."""

BACKWARD_BUGS: dict[str, BackwardBug] = {}
"""Bugs of the backward pass, in the order in which they are looked for; those of ops stand beside these."""

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
