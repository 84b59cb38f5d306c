"""A report as text and as Markdown: the report on the wire in, a string out. Knows no Flask and no numerics."""

from service.rendering.markdown import render_markdown
from service.rendering.text import render_text

__all__ = ["render_markdown", "render_text"]
