"""A report as text and as Markdown: from the report on the wire to a string, without Flask and numerics."""

from service.rendering.markdown import render_markdown
from service.rendering.text import render_text

__all__ = ["render_markdown", "render_text"]
