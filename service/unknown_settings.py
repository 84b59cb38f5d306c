"""Environment variables that look like a setting of the service, and are none."""

import difflib
import re
from collections.abc import Collection, Mapping

# Kubernetes sets these in every pod beside a service of this name, and the client reads the last two.
_FOREIGN_VARIABLES = re.compile(
    r"(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?|URL|API_KEY)"
)
_SIMILARITY_CUTOFF = 0.75


def find_unknown_settings(environment: Mapping[str, str], prefix: str, names: Collection[str]) -> list[str]:
    """Return the variables with the prefix that are no setting and no known other.

    Parameters
    ----------
    environment
        Environment variables by name.
    prefix
        Prefix of the service's settings.
    names
        Names of the settings without the prefix, in lower case.
    """
    # Pydantic reads variables in any case.
    return sorted(
        name
        for name in environment
        if name.upper().startswith(prefix)
        and name.upper().removeprefix(prefix).lower() not in names
        and not _FOREIGN_VARIABLES.fullmatch(name.upper().removeprefix(prefix))
    )


def suggest_setting(name: str, prefix: str, names: Collection[str]) -> str | None:
    """Return the setting that a variable most likely misspells, or None."""
    similar_names = difflib.get_close_matches(name.upper().removeprefix(prefix).lower(), names, 1, _SIMILARITY_CUTOFF)
    return f"{prefix}{similar_names[0].upper()}" if similar_names else None
