"""What this site adds to Sphinx: pages made from the registries, and formulas without JavaScript."""

from extension import commands, components, configuration, interface, mathml, results


def setup(app):
    """Register everything; the pages are written before Sphinx looks for sources."""
    for part in (mathml, components, configuration):
        part.setup(app)
    app.connect("builder-inited", _write)
    app.connect("source-read", _keep_together)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _keep_together(app, page, source):
    """No number in a table ends a line before its ± or †; on a phone it would take three."""
    del app, page
    lines = source[0].split("\n")
    for number, line in enumerate(lines):
        if line[:1] == "|":
            lines[number] = line.replace(" ± ", "\u00a0±\u00a0").replace(" †", "\u00a0†")
    source[0] = "\n".join(lines)


def _write(app):
    for part in (components, interface, commands, results):
        part.write(app)
