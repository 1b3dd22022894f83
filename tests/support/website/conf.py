"""How Sphinx builds the site from the pages that gather.py writes."""

from __future__ import annotations

from importlib.metadata import version as installed

project = "aiohaul"
version = release = installed("aiohaul")
copyright = "Apache-2.0"  # noqa: A001  # Sphinx's name
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]

html_theme = "furo"
html_title = f"aiohaul {release}"
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_static_path = ["static"]
html_css_files = ["site.css"]
html_theme_options = {"navigation_with_keys": True}

#: Anchors of headings, as code hosts make them.
myst_heading_anchors = 4

autodoc_default_options = {
    "members": True,
    "inherited-members": "object,BaseException,NotPicklable,PicklableError",
}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
add_module_names = False
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes as one list
