"""The manual's tables of messages are the code's: every refusal has a row, and every row is a refusal.

Read from the source: the text of each refusal, with `…` for what varies, beside the texts in the tables' first column.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise

import pytest

from ..house.source import PACKAGE, product

PAGE = PACKAGE.parent / "docs" / "troubleshooting.md"
ANY = "…"
SHORTEST = 6  # letters of a text that tells one message from another

ERRORS = {node.name for node in ast.parse((PACKAGE / "errors.py").read_text()).body if isinstance(node, ast.ClassDef)}
SPEAKING = {*ERRORS, "refuse", "fail"}
"""What is called with the text of a refusal. A ValueError is quoted by one of them, with words of its own in front."""

NO_ROW = {
    "registry.py": "for who registers a component: `Component`'s own documentation says what it has to be",
    "modes.py": "for who registers a parallel mode",
    "shard_writer.py": "a sharding plan that does not fit its component; for who writes one",
    "host.py": "hands on what was refused, and what argparse says",
    "emulator": "for who writes programs: what the SDK would refuse; what users meet of it has rows all the same",
}
"""Files or rooms whose refusals need no row -> why."""

OTHERS = (
    "the following arguments are required",
    "unrecognized arguments",
    "expected one argument",
    "not allowed with argument",
    "Error no file named",
    "found in directory",
    "was not found in the dictionary",
    "Input should be",
    "no program was compiled for input shapes",
    "Address already in use",
    "Could not import module",
    "NotImplementedError",
    "'NoneType' object has no attribute",
    "No major for neuron device",
    "running on a CPU-only machine",
    "Multiple distributions found",
)
"""Words of argparse, pydantic, diffusers, optimum-neuron, TorchScript and the system, which the page explains too."""


@cache
def constants() -> dict[str, str]:
    """Texts that a module has under a name, by that name."""
    found = {}
    for module in product(with_emulator=True):
        for node in module.tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant | ast.JoinedStr):
                found |= {name.id: text(node.value) for name in node.targets if isinstance(name, ast.Name)}
    return found


def text(node: ast.AST) -> str:
    """What an expression of text says, with `…` for what varies."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(map(text, node.values))
    if isinstance(node, ast.FormattedValue):
        return text(node.value)
    if isinstance(node, ast.BinOp):
        return text(node.left) + text(node.right)
    if isinstance(node, ast.IfExp):
        return f"{text(node.body)}{ANY}{text(node.orelse)}"
    if isinstance(node, ast.Name):
        return constants().get(node.id, ANY) if node.id.isupper() else ANY
    return ANY


def refusals() -> Iterator[tuple[str, str]]:
    """Where each stands, and its text."""
    for module in product(with_emulator=True):
        if module.path.name in NO_ROW or module.room in NO_ROW:
            continue
        for node in module.nodes:
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) in SPEAKING and node.args:
                said = ANY.join(text(argument) for argument in node.args)
                if telling(said):
                    yield f"{module.path}:{node.lineno}", said


def pieces(message: str) -> list[str]:
    """The words between what varies, and between signs."""
    return [piece.strip() for piece in re.split(rf"[{ANY}\n:;,()'\"`]", message) if piece.strip(" .-/=")]


@cache
def rows() -> tuple[str, ...]:
    """Every message of the page's tables, as it is written there."""
    messages = []
    for line in PAGE.read_text().splitlines():
        if line.startswith("| "):
            messages += re.findall(r"`([^`]+)`", re.split(r"(?<!\\)\|", line)[1])
    return tuple(message.replace("\\|", "|") for message in messages)


@cache
def written() -> str:
    """All texts of the product, one a line."""
    nodes = [node for module in product(with_emulator=True) for node in module.nodes]
    return "\n".join(text(node) for node in nodes if isinstance(node, ast.Constant | ast.JoinedStr))


def telling(message: str) -> list[str]:
    """The words of a message by which it is known; advice stands behind its first semicolon."""
    return [piece for piece in pieces(message.partition(";")[0]) if len(piece) >= SHORTEST]


def says(message: str, words: str) -> bool:
    """Whether a message has these words, or two of them that follow each other."""
    pairs = (" ".join(pair) for pair in pairwise(words.split(" ")))
    return words in message or any(len(pair) > SHORTEST and pair in message for pair in pairs)


@pytest.mark.seconds
def test_every_refusal_has_a_row():
    known = "\n".join(rows())
    missing = [
        f"{where}: {said}" for where, said in refusals() if not any(says(known, words) for words in telling(said))
    ]
    assert not missing, "give it a row in docs/troubleshooting.md:\n" + "\n".join(missing)


@pytest.mark.seconds
def test_every_row_is_a_refusal():
    mine = [row for row in rows() if telling(row) and not any(words in row for words in OTHERS)]
    unknown = [row for row in mine if not any(says(written(), words) for words in telling(row))]
    assert not unknown, "no code says this:\n" + "\n".join(unknown)


@pytest.mark.parametrize("name", NO_ROW)
def test_what_needs_no_row_is_there(name):
    assert list(PACKAGE.rglob(name)), "nothing is excused that is gone"
