"""Variables of the environment that look like a setting of ours, and are none."""

import difflib
import re
from collections.abc import Collection, Mapping

# What Kubernetes tells every pod of a service with our name, and what our client reads.
_FOREIGN_VARIABLES = re.compile(
    r"(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?|URL|API_KEY)"
)
_SIMILARITY_CUTOFF = 0.75


def find_unknown_settings(environment: Mapping[str, str], prefix: str, names: Collection[str]) -> list[str]:
    """Return the variables with the prefix that are neither a setting nor known to be another's.

    Parameters
    ----------
    environment
        Variables.
    prefix
        Begins those of ours.
    names
        Names of the settings, without it, in lower case.
    """
    # As pydantic reads them: in any case.
    return sorted(
        name
        for name in environment
        if name.upper().startswith(prefix)
        and name.upper().removeprefix(prefix).lower() not in names
        and not _FOREIGN_VARIABLES.fullmatch(name.upper().removeprefix(prefix))
    )


def suggest_setting(name: str, prefix: str, names: Collection[str]) -> str | None:
    """Return the setting that a variable must be a misspelling of, so much is it like it."""
    alike = difflib.get_close_matches(name.upper().removeprefix(prefix).lower(), names, 1, _SIMILARITY_CUTOFF)
    return f"{prefix}{alike[0].upper()}" if alike else None
