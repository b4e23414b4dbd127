"""Formulas as MathML, which browsers draw themselves: nothing is loaded and no LaTeX is installed."""

from docutils.nodes import SkipNode
from latex2mathml.converter import convert


def setup(app):
    """Have `$...$` and `$$...$$` converted."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))


def _inline(translator, node):
    translator.body.append(convert(node.astext()))
    raise SkipNode


def _block(translator, node):
    translator.body.append(f'<div class="formula">{convert(node.astext(), display="block")}</div>')
    raise SkipNode
