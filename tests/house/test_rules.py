"""Rules of the house that its source shows: who prints, what is derived, spelled once, documented and typed."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from .source import PACKAGE, Module, product

pytestmark = pytest.mark.seconds

TESTS = Path(__file__).parents[1]

LARGEST = 400
"""Lines of a file."""

ON_DISK = {
    "model.neuron": "artifact.compiled",
    "sharded_checkpoint": "artifact.compiled",
    "neuron_manifest.json": "artifact.manifest",
    "model_index.json": "checkpoint.layout",
}
"""Names of files, and the module that has them."""

IGNORED = re.compile(r"#\s*type:\s*ignore(?P<code>\[[a-z, -]+\])?(?P<rest>.*)")
MOST_IGNORED = 25


def library() -> list[Module]:
    """Everything but the commands."""
    return [module for module in product() if module.room != "commands"]


def test_only_commands_print():
    prints = re.compile(r"(builtins\.)?print|sys\.(stdout|stderr)\.(write|writelines)|[Cc]onsole")
    found = [
        f"{module.path}:{line} {function}"
        for module in library()
        for line, function, call in module.calls
        if prints.fullmatch(function) and not _writes_elsewhere(function, call, module)
    ]
    assert not found, f"library code logs, so that its caller decides what is shown and where: {found}"


def _writes_elsewhere(function: str, call: ast.Call, module: Module) -> bool:
    """Whether a console is made of what is no stream of the process, or where commands get theirs from."""
    given = [ast.unparse(each) for each in (*call.args, *[each.value for each in call.keywords if each.arg == "file"])]
    if function not in ("Console", "console"):
        return False
    return (bool(given) and "sys." not in given[0]) or module.name == "terminal.table"


def test_progress_bars_are_for_terminals():
    found = [
        f"{module.path}:{line}"
        for module in product()
        for line, function, call in module.calls
        if function == "tqdm" and "disable" not in [each.arg for each in call.keywords]
    ]
    assert not found, f"a bar fills a file with its pieces; disable=None draws it on a terminal only: {found}"


def test_only_commands_say_what_is_logged():
    # Lines of these packages are left out in processes that this one starts for a command.
    others = r"(?!logging\.getLogger\('(ray|diffusers|optimum\.neuron)\.)"
    settings = re.compile(
        rf"logging\.(basicConfig|config\..*|disable|captureWarnings)|{others}.*\.(addHandler|setLevel)"
    )
    found = [
        f"{module.path}:{line} {function}"
        for module in library()
        for line, function, _ in module.calls
        if settings.fullmatch(function)
    ]
    assert not found, f"handlers and levels are the application's: {found}"


def test_flags_are_made_from_options():
    parsers = {module.room for module in product() if "argparse" in module.outside}
    assert parsers == {"commands"}, "an option is a field; argparse is one of the things that are made from it"
    spelled = [
        f"{module.path}:{line}"
        for module in product()
        for line, function, call in module.calls
        if function.endswith(".add_argument") and any(isinstance(each, ast.Constant) for each in call.args)
    ]
    assert not spelled, f"a flag that is written out is missing in Python, in the record and in the manual: {spelled}"


@pytest.mark.parametrize("name", ON_DISK)
def test_a_files_name_is_spelled_once(name):
    alone = re.compile(rf"(.*/)?[^ /]*{re.escape(name)}[^ /]*")  # and not in a sentence
    found = [
        f"{module.path}:{line}"
        for module in product()
        for line, text in module.strings
        if module.name != ON_DISK[name] and alone.fullmatch(text)
    ]
    assert not found, f"{ON_DISK[name]} says what lies where; who writes and who reads go by it: {found}"


def test_one_module_reads_the_section_of_a_compiled_component():
    found = [
        f"{module.path}:{node.lineno}"
        for module in product()
        if module.name != "artifact.compiled"
        for node in module.nodes
        for key in _keys(node)
        if isinstance(key, ast.Constant) and key.value == "neuron"
    ]
    assert not found, f"what it means is said by one class, artifact.compiled.Compiled: {found}"


def _keys(node: ast.AST) -> list[ast.expr]:
    """By which something is looked up."""
    if isinstance(node, ast.Subscript):
        return [node.slice]
    return node.args[:1] if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".get") else []


def test_configs_of_components_come_from_the_tasks_manager():
    makers = {"components.export_config", "components.registration"}
    found = [
        f"{module.path}:{line}"
        for module in product()
        for line, name in module.identifiers
        if name == "config_class" and module.name not in makers
    ]
    assert not found, f"who makes a config by itself does not see that somebody registered another one: {found}"


def test_what_is_public_is_documented():
    modules = [module for module in product(with_emulator=True) if module.path.name != "__init__.py"]
    found = [str(module.path) for module in modules if not ast.get_docstring(module.tree)]
    found += [
        f"{module.path}:{node.lineno} {node.name}"
        for module in product()
        for node in module.tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_")
        if not re.search(r"[.:;?!)]$", (ast.get_docstring(node) or "").partition("\n\n")[0])
    ]
    assert not found, f"a sentence says what it is, so that nobody has to read how it is done: {found}"


def test_files_are_small():
    modules = product(with_emulator=True)
    sizes = {str(module.path): len(module.text.splitlines()) for module in modules}
    found = {path: lines for path, lines in sizes.items() if lines >= LARGEST}
    assert not found, f"a file that is read at a glance has one subject; divide it by subject: {found}"


class TestTypes:
    def test_what_is_ignored_has_its_code_and_its_reason(self):
        ignored = [
            (f"{module.path}:{number}", match)
            for module in product(with_emulator=True)
            for number, line in enumerate(module.text.splitlines(), 1)
            if (match := IGNORED.search(line))
        ]
        silent = [where for where, match in ignored if not match["code"] or not re.search(r"#\s*\w", match["rest"])]
        assert not silent, f"say which error is wrong, and why: {silent}"
        assert len(ignored) <= MOST_IGNORED, "a checker that is told to look away is none"

    def test_no_module_of_the_product_is_left_out(self):
        tomllib = pytest.importorskip("tomllib")
        settings = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["tool"]["mypy"]
        assert settings["check_untyped_defs"] and settings["packages"] == [PACKAGE.name]
        assert not {"exclude", "ignore_errors", "disable_error_code"} & settings.keys()
        patterns = [pattern for each in settings["overrides"] for pattern in each["module"]]
        assert not [pattern for pattern in patterns if pattern.startswith((PACKAGE.name, "*"))]


def test_a_class_of_one_file_is_private():
    texts = [path.read_text() for path in TESTS.rglob("*.py")] + [module.text for module in product()]
    users = Counter(word for text in texts for word in set(re.findall(r"\w+", text)))
    found = [
        f"{module.path} {node.name}"
        for module in product()
        for node in module.tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and users[node.name] == 1
    ]
    assert not found, f"whoever reads a public class looks for its users; one without any starts with _: {found}"
