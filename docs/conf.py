"""Sphinx configuration; built by ``make docs``."""

import sys
from importlib.metadata import metadata
from pathlib import Path

PROJECT = Path(__file__).parent.parent
sys.path[:0] = [str(PROJECT / "docs" / "_ext"), str(PROJECT / "tools")]

# Of what is not released yet; "make docs" writes it, and other ways of building do without.
_unreleased = PROJECT / "docs" / "unreleased.md"
if not _unreleased.exists():
    _unreleased.write_text("## Unreleased\n", encoding="utf-8")
_package = metadata("saltext-kvmcluster")

project = "saltext-kvmcluster"
release = _package["Version"]
# Without the commit, which is long.
version = release.partition("+")[0]
copyright = f"2026 {_package['Author']}. Version {release}"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton", "doors"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "unreleased.md"]
add_function_parentheses = False
add_module_names = False
# An example of a command line has no language, or `console`; what is printed is no program.
highlight_language = "none"

html_theme = "furo"
html_title = f"saltext-kvmcluster {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_search_scorer = str(PROJECT / "docs" / "_static" / "scorer.js")
html_domain_indices = False
html_copy_source = False
html_show_sphinx = False
# Of a session only what is typed.
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True
copybutton_line_continuation_character = "\\"
