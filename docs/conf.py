"""Sphinx configuration; built by ``make docs``."""

project = "saltext-kvmcluster"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
html_theme = "furo"
exclude_patterns = ["_build"]
autodoc_member_order = "bysource"
add_module_names = False
