"""The product's source, parsed once: what the tests of the house read."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.util import resolve_name
from pathlib import Path

import optimum_pixart_neuron

PACKAGE = Path(optimum_pixart_neuron.__file__).parent


@dataclass(frozen=True)
class Module:
    """One file of the product.

    Attributes:
        path: from the package's folder.
    """

    path: Path

    @property
    def name(self) -> str:
        """Dotted, without the package's own name; empty for the package itself."""
        parts = self.path.with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def room(self) -> str:
        """The folder below the package; a module at the root is a room of its own."""
        return self.path.parts[0] if len(self.path.parts) > 1 else self.path.stem

    @cached_property
    def text(self) -> str:
        return (PACKAGE / self.path).read_text()

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        return tuple(ast.walk(self.tree))

    @cached_property
    def strings(self) -> list[tuple[int, str]]:
        """Line and text of every string that is not documentation, which is what stands alone."""
        alone = {id(node.value) for node in self.nodes if isinstance(node, ast.Expr)}
        texts = [node for node in self.nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        return [(node.lineno, node.value) for node in texts if id(node) not in alone]

    @cached_property
    def identifiers(self) -> list[tuple[int, str]]:
        """Line and text of every name in the code: variables, attributes, parameters, keywords, functions."""
        kinds = {ast.Name: "id", ast.Attribute: "attr", ast.arg: "arg", ast.keyword: "arg"}
        kinds |= {ast.FunctionDef: "name", ast.ClassDef: "name"}
        found = [(node, getattr(node, kinds[type(node)])) for node in self.nodes if type(node) in kinds]
        return [(node.lineno, name) for node, name in found if name]

    @cached_property
    def calls(self) -> list[tuple[int, str, ast.Call]]:
        """Line, function as it is written, and node of every call."""
        calls = [node for node in self.nodes if isinstance(node, ast.Call)]
        return [(node.lineno, ast.unparse(node.func), node) for node in calls]

    @cached_property
    def outside(self) -> set[str]:
        """Outermost names of what it imports of others, at its head or in a function."""
        found = [alias.name for node in self.nodes if isinstance(node, ast.Import) for alias in node.names]
        found += [node.module for node in self.nodes if isinstance(node, ast.ImportFrom) and not node.level]
        return {name.partition(".")[0] for name in found} - {PACKAGE.name}

    def imports(self, *, late: bool = False) -> Iterator[str]:
        """Dotted names of the package's own modules that it imports, without the package's name.

        Args:
            late: also what functions import; never what only type checkers see.
        """
        pending: list[ast.AST] = [self.tree]
        while pending:
            node = pending.pop()
            if isinstance(node, ast.ImportFrom):
                yield from self._imported(node)
            only_typed = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            in_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            if not only_typed and (late or not in_function):
                pending += ast.iter_child_nodes(node)

    def _imported(self, node: ast.ImportFrom) -> Iterator[str]:
        package = ".".join((PACKAGE.name, *self.path.parent.parts))
        outermost, _, base = resolve_name("." * node.level + (node.module or ""), package).partition(".")
        if outermost == PACKAGE.name:
            for alias in node.names:
                whole = f"{base}.{alias.name}".removeprefix(".")
                yield whole if whole in names() else base


@cache
def product(*, with_emulator: bool = False) -> tuple[Module, ...]:
    """Every module; the emulator, which knows nothing of PixArt, only if it is asked for."""
    paths = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
    return tuple(Module(path) for path in paths if with_emulator or path.parts[0] != "emulator")


@cache
def names() -> frozenset[str]:
    return frozenset(module.name for module in product(with_emulator=True))
