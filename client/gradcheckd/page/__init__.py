"""A report as one file of HTML, with heat maps, that opens offline. It has no script, and loads nothing."""

from gradcheckd.page.document import render_page

__all__ = ["render_page"]
