"""The options of an import, as a query has them."""

from collections.abc import Mapping
from dataclasses import dataclass

from schemas.problem_details import InvalidRequestError, describe_unknown, error_at, quote_name

PROJECTION = "projection"
_MAX_SEED = 2**63 - 1
_NAMES = ("loss", "seed")


@dataclass(frozen=True)
class ImportOptions:
    """The options of an import.

    Attributes
    ----------
    loss
        "projection", or the name of a value of the file that is the loss, or is contracted to it.
    seed
        Seed of the random values.
    """

    loss: str = PROJECTION
    seed: int = 0


def parse_options(query: Mapping[str, str]) -> ImportOptions:
    """Parse the options of an import.

    Raises
    ------
    InvalidRequestError
        An option is unknown, or has another form.
    """
    errors = [error_at(describe_unknown("option", name, list(_NAMES))) for name in sorted(set(query) - set(_NAMES))]
    text = query.get("seed", "0")
    seed = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else _MAX_SEED + 1
    if seed > _MAX_SEED:
        errors.append(error_at(f"seed must be an integer from 0 to {_MAX_SEED}; {quote_name(text)} was given"))
    loss = query.get("loss", PROJECTION)
    if not loss:
        errors.append(error_at(f"loss must be `{PROJECTION}`, or the name of a value of the model"))
    if errors:
        raise InvalidRequestError(errors)
    return ImportOptions(loss, seed)
