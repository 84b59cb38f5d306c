"""Configuration of Sphinx: `make docs` builds the site into build/docs."""

project = "gradcheckd"
author = "the gradcheckd authors"
project_copyright = "the gradcheckd authors"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence", "dollarmath", "deflist"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "gradcheckd"
exclude_patterns = ["README.md"]
autodoc_typehints = "description"
autodoc_member_order = "bysource"
nitpicky = False
