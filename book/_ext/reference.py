"""``{reference} MODULE [NAME …]``: a module's public functions and classes, or some of them, each
with the first sentence of its docstring. `help(NAME)` in Python has the rest."""

import importlib
import inspect
import re

from docutils import nodes
from docutils.parsers.rst import Directive


def first_sentence(docstring):
    """Plain text, without roles and backquotes."""
    text = re.sub(r":\w+:`~?([^`]*)`", r"\1", " ".join((docstring or "").split()))
    return re.split(r"(?<=\.)(?<!Eq\.)(?<!Eqs\.)\s", text.replace("`", ""), maxsplit=1)[0] or "–"


def public(module):
    """Names and objects: those of `__all__`, else what the module itself defines."""
    names = getattr(module, "__all__", None) or [
        name
        for name, found in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(found) or inspect.isclass(found))
        and found.__module__ == module.__name__
    ]
    return [(name, getattr(module, name)) for name in names if not name.startswith("_")]


class Reference(Directive):
    required_arguments, optional_arguments = 1, 20

    def run(self):
        module, wanted = importlib.import_module(self.arguments[0]), self.arguments[1:]
        items = nodes.definition_list()
        for name, found in public(module):
            if wanted and name not in wanted:
                continue
            term = nodes.term("", "", nodes.literal(name, name))
            said = nodes.definition("", nodes.paragraph("", first_sentence(found.__doc__)))
            items += nodes.definition_list_item("", term, said)
        return [items]


def setup(app):
    app.add_directive("reference", Reference)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
