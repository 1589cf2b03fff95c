"""Show executed copies: the table of contents names clean notebooks, the book shows their outputs.

The copies are in the folder that LTHNB_EXECUTED names (`make book` sets it), else those of the
recorded profile. Links and downloads go on pointing at the clean sources.
"""

import os
from pathlib import Path

from sphinx.util import logging


def swap(app, docname, content):
    """Replace a notebook's text (``content[0]``) by that of its executed copy."""
    source = Path(app.env.doc2path(docname))
    if source.suffix != ".ipynb":
        return
    folder = os.environ.get("LTHNB_EXECUTED") or Path(app.srcdir, "_executed", "recorded")
    copy = Path(folder, source.name)
    if not copy.exists():
        logging.getLogger(__name__).warning(
            "no executed copy of %s at %s: run `make book`", source.name, copy, location=docname
        )
        return
    app.env.note_dependency(str(copy))
    content[0] = copy.read_text(encoding="utf-8")


def setup(app):
    app.connect("source-read", swap)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
