"""A report as text and as Markdown: the report on the wire in, a string out. Knows no Flask and no numerics."""

from service.rendering.markdown import markdown
from service.rendering.text import text

__all__ = ["markdown", "text"]
