"""HTML of which every text is escaped, as it is made of elements and not of strings."""

from html import escape


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def make_element(tag: str, *children: str | None, **attributes: str | int | None) -> Markup:
    """Make an element.

    Parameters
    ----------
    tag
        Its name; one of `img`, `col`, `meta` or `br` has no end.
    children
        Markup, and text, which is escaped; None is left out.
    attributes
        Their values are escaped; None is left out. `class_` is `class`, and `aria_label` is `aria-label`.
    """
    given = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape_visible(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in ("img", "col", "meta", "br"):
        return Markup(f"<{tag}{given}>")
    return Markup(f"<{tag}{given}>{join_markup(*children)}</{tag}>")


def join_markup(*children: str | None) -> Markup:
    """Markup and text one after the other."""
    return Markup(
        "".join(each if isinstance(each, Markup) else escape_visible(each) for each in children if each is not None)
    )


def escape_visible(text: str) -> str:
    """Text with all that HTML would act upon escaped, and all that does not show, or turns writing around, spelled."""
    shown = "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)
    return escape(shown)
