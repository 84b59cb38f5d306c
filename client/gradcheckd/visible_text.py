"""Names of a request as a person sees them: this is the one place of the client in which they are escaped."""


def escape_invisible(text: str) -> str:
    """Escape, as Python does, the characters that do not show, that move a cursor, or that turn writing around."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )
