"""HTML made of elements and not of strings, so that every text in it is escaped."""

from html import escape

from gradcheckd.visible_text import escape_invisible


class Markup(str):
    """A text that is HTML already."""

    __slots__ = ()


def make_element(tag: str, *children: str | None, **attributes: str | int | None) -> Markup:
    """Make an element.

    Parameters
    ----------
    tag
        Name of the element; `img`, `col`, `meta` and `br` have no end tag.
    children
        Markup, and text to escape; None is left out.
    attributes
        Values to escape, by name; None is left out. `class_` is `class`, and `aria_label` is `aria-label`.
    """
    attribute_text = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape_visible(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in ("img", "col", "meta", "br"):
        return Markup(f"<{tag}{attribute_text}>")
    return Markup(f"<{tag}{attribute_text}>{join_markup(*children)}</{tag}>")


def join_markup(*children: str | None) -> Markup:
    """Join markup and text, which is escaped."""
    return Markup(
        "".join(
            child if isinstance(child, Markup) else escape_visible(child) for child in children if child is not None
        )
    )


def escape_visible(text: str) -> str:
    """Escape the characters that HTML would act upon, and those that do not show."""
    return escape(escape_invisible(text))
