"""What a fault is, and the catalogue of those there are: one entry a bug, which injects and recognises itself."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from service.numerics.faults.hypothesis import Hypothesis
from service.numerics.faults.scene import Scene
from service.numerics.ops.op import Gradients
from service.numerics.tiles import Array

Wrong = Callable[..., Gradients]


class Bug(ABC):
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


class Fault(Bug):
    """A bug of one tensor's gradient."""

    @abstractmethod
    def recognised(self, scene: Scene, name: str) -> Iterator[Hypothesis]:
        """What it may have made of the gradient with respect to a name, given what the client sent."""

    @abstractmethod
    def injected(self, scene: Scene, name: str) -> Iterator[Mapping[str, Array]]:
        """Candidates with the bug: of the name, and of others where it takes several."""


class Made(Fault):
    """A bug whose work does not depend on what was sent: it is recognised by what it makes."""

    @abstractmethod
    def made(self, scene: Scene, name: str) -> Iterator[Hypothesis]:
        """What it makes of the gradient with respect to a name."""

    def recognised(self, scene: Scene, name: str) -> Iterator[Hypothesis]:
        """See `Fault`."""
        return self.made(scene, name)

    def injected(self, scene: Scene, name: str) -> Iterator[Mapping[str, Array]]:
        """See `Fault`."""
        return ({name: each.gradient} for each in self.made(scene, name))


@dataclass(frozen=True, eq=False)
class Alteration:
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

    fault: str
    overrides: Mapping[str, Wrong]
    text: Callable[[], str]
    share: Callable[[], str] | None = None


class OnTheWayBack(Bug):
    """A bug of the backward pass, which all gradients behind it inherit."""

    @abstractmethod
    def alterations(self, scene: Scene, names: Sequence[str]) -> Iterator[Alteration]:
        """Ways to make it, as far as they show in the gradients of the names."""


FAULTS: dict[str, Fault] = {}
"""Bugs of single gradients, in the order in which they are looked for."""

BACKWARD: dict[str, OnTheWayBack] = {}
"""Bugs of the backward pass, in the order in which they are looked for; those of ops stand beside these."""

AFault = TypeVar("AFault", bound=Fault)
ABackward = TypeVar("ABackward", bound=OnTheWayBack)


def fault(cls: type[AFault]) -> type[AFault]:
    """Enter a bug of single gradients into the catalogue."""
    FAULTS[cls.name] = cls()
    return cls


def on_the_way_back(cls: type[ABackward]) -> type[ABackward]:
    """Enter a bug of the backward pass into the catalogue."""
    BACKWARD[cls.name] = cls()
    return cls
