"""The documentation site: `make docs` builds it, without network."""

import logging
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
# Notebooks run this checkout; most of their time is compilation, which is kept for the next build.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(HERE.parent), os.environ.get("PYTHONPATH"))))
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# What runs here is small: compiling it well would take longer than running it.
os.environ["XLA_FLAGS"] = " ".join((os.environ.get("XLA_FLAGS", ""), "--xla_backend_optimization_level=0"))
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(HERE / "_build" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")

import fljax

# A line for every notebook is no warning.
logging.getLogger("traitlets").setLevel(logging.ERROR)

project = "fljax"
author = "the authors of fljax"
version = release = fljax.__version__
extensions = ["myst_nb", "sphinx_copybutton", "extension"]
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]
nitpicky = True
default_role = "literal"
smartquotes = False
show_warning_types = True

myst_enable_extensions = ["colon_fence", "dollarmath", "deflist", "attrs_inline"]
myst_heading_anchors = 3
myst_links_external_new_tab = False
nb_execution_mode = "cache"
nb_execution_cache_path = str(HERE / "_build" / "notebooks")
nb_execution_timeout = 120
nb_execution_raise_on_error = True
nb_ipywidgets_js: dict = {}
nb_merge_streams = True
nb_render_markdown_format = "myst"

html_theme = "furo"
html_title = "fljax"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
# Opened from a folder, a page may not read what it would show of the others it has found.
html_show_search_summary = False
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
