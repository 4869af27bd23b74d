"""What the pages take from the code: `{{ options(...) }}` tables, and what stands in one place only.

mkdocs calls `on_page_markdown` for every page (mkdocs 1.6, "Hooks").
"""

import re
from collections.abc import Callable

_CALL = re.compile(r"^\{\{ *(\w+)\(([\w, ]*)\) *\}\}$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: object) -> str:
    """Put the generated parts of a page in.

    Raises:
        KeyError: a page asks for a part that `PARTS` does not have.
    """
    return _CALL.sub(lambda call: PARTS[call[1]](*filter(None, map(str.strip, call[2].split(",")))), markdown)


def _options() -> str:
    """Every option of an export, from the models that the command and the Python API are made of."""
    from optimum_pixart_neuron.export.options import ExportOptions
    from optimum_pixart_neuron.options import manual_table

    return manual_table(ExportOptions).replace("### ", "## ")


def _messages(of: str) -> str:
    """What the compiler or the runtime says, from the table that errors quote."""
    from optimum_pixart_neuron.neuron import troubles

    tables = {"compiler": troubles.COMPILER_TROUBLES, "runtime": troubles.RUNTIME_TROUBLES}
    return troubles.manual_table(tables[of])


PARTS: dict[str, Callable[..., str]] = {"options": _options, "messages": _messages}
