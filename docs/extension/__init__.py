"""What this site adds to Sphinx: pages made from the registries, and formulas without JavaScript."""

from extension import commands, components, interface, mathml, results


def setup(app):
    """Register everything; the pages are written before Sphinx looks for sources."""
    for part in (mathml, components):
        part.setup(app)
    app.connect("builder-inited", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _write(app):
    for part in (components, interface, commands, results):
        part.write(app)
