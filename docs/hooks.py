"""What the pages take from elsewhere: pictures of `examples/`, and tables of the code as `{{ options() }}`.

mkdocs calls `on_files` once, and `on_page_markdown` for every page (mkdocs 1.6, "Hooks").
"""

import re
from collections.abc import Callable
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

_EXAMPLES = Path(__file__).parents[1] / "examples"
_CALL = re.compile(r"^\{\{ *(\w+)\(([\w, ]*)\) *\}\}$", re.MULTILINE)
_PICTURE = re.compile(r"\]\(\.\./examples/([\w.-]+\.png)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Serve the pictures of `examples/`, which the repository has once, beside the manual's own."""
    for picture in sorted(_EXAMPLES.glob("*.png")):
        files.append(File.generated(config, f"assets/{picture.name}", abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Put the generated parts of a page in, and lead to pictures where the site has them.

    Raises:
        KeyError: a page asks for a part that `PARTS` does not have.
    """
    markdown = _PICTURE.sub(r"](assets/\1)", markdown)
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


def _releases() -> str:
    """The releases of the SDK that are data."""
    from optimum_pixart_neuron.hardware.sdk_releases import SDK_RELEASES

    names = ("torch-neuronx", "neuronx-distributed", "neuronx-cc", "libneuronxla")
    rows = [
        f"| {each.name} | {each.python_range} | {each.versions['torch']} | "
        + " | ".join(each.versions[name] for name in names)
        + f" | {each.driver} | {each.runtime} |"
        for each in SDK_RELEASES.values()
    ]
    head = "| SDK | Python | torch | " + " | ".join(names) + " | driver | runtime |"
    return "\n".join([head, "|---" * 9 + "|", *rows])


PARTS: dict[str, Callable[..., str]] = {"options": _options, "messages": _messages, "releases": _releases}
