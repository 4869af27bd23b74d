"""What an option is: one field of a pydantic model, from which everything that users see of it is derived.

A field has its type, default and limits as pydantic has them, and its `description` is the help. `Flag` adds how the
command line spells it. Derived are the parser of the command line (`commands/parser.py`), the keyword of the Python
API, coercion, one refusal for both, the record in the manifest, and the manual's table.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from .errors import InvalidExportOption, printable

if TYPE_CHECKING:
    from typing_extensions import Self

# Of pydantic's error types (2.8 to 2.14, `pydantic_core.ErrorType`), in the words of the command line.
_REASONS = {
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be above {gt}",
    "less_than_equal": "must be at most {le}",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of fewer digits",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_parsing": "must be True or False",
    "bool_type": "must be True or False",
    "string_type": "must be text",
    "path_type": "must be a path",
}


@dataclass(frozen=True, kw_only=True)
class Flag:
    """How the command line spells a field. Metadata of its annotation.

    Attributes:
        names: The spellings, as in `("-m", "--model")`; one without a dash is positional. By default `--` and the
            field's name.
        hidden: Older spellings, taken and not shown.
        group: The heading in the help and the manual.
        metavar: What stands for the value in the help.
        choices: The values there are; may be a registry that grows.
        switches: Flags without a value, as `-O1` -> the value of the field that each stands for, and its help. They
            exclude each other.
        nargs: As argparse takes it, for a field that is a list.
        const: The value of the flag where none follows it, with `nargs="?"`.
        recorded: Whether the manifest of an export tells the value. What says where things lay on one machine, and
            secrets, are left out.
    """

    names: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    group: str = "Options"
    metavar: str | None = None
    choices: Collection[Any] | None = None
    switches: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    nargs: str | None = None
    const: Any = None
    recorded: bool = True


@dataclass(frozen=True)
class Option:
    """A field of a model, as a user sees it."""

    name: str
    info: FieldInfo

    @property
    def flag(self) -> Flag:
        return next((each for each in self.info.metadata if isinstance(each, Flag)), Flag())

    @property
    def names(self) -> tuple[str, ...]:
        """The spellings on the command line."""
        return self.flag.names or (f"--{self.name}",)

    @property
    def label(self) -> str:
        """The spelling in messages."""
        return self.names[-1]

    @property
    def is_switch(self) -> bool:
        """Whether the flag takes no value."""
        return self.info.annotation is bool

    @property
    def default(self) -> Any:
        """The default where it is worth telling: nothing for False, for the empty string and for None."""
        default = self.info.default
        return None if self.info.is_required() or default in (None, False, "", ()) else default

    @property
    def help(self) -> str:
        """The help, with the default where the description does not tell it."""
        text = self.info.description or ""
        told = self.default is None or "default:" in text
        return text if told else f"{text.removesuffix('.')} (default: {self.default})."


class Options(BaseModel):
    """Base of all option models. Frozen; a value that is refused is one line, alike from Python and command line.

    None stands for an option that is left out, as everywhere in Hugging Face's libraries.

    Raises:
        InvalidExportOption: A value that the option cannot have; names flag, value and limit. Or there is no such
            option.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, **given: Any) -> None:
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise InvalidExportOption(_refusal(type(self), error)) from None

    @model_validator(mode="before")
    @classmethod
    def _left_out(cls, given: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in given.items() if value is not None}

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """pydantic takes True for 1."""
        annotation = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and annotation is not bool and bool not in get_args(annotation):
            raise ValueError("this option takes no truth value")
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _one_of_the_choices(cls, value: Any, info: ValidationInfo) -> Any:
        choices = Option(info.field_name or "", cls.model_fields[info.field_name or ""]).flag.choices
        if choices is not None and value is not None and value not in choices:
            raise PydanticCustomError("choice", "choose {choices}", {"choices": any_of(choices)})
        return value

    @classmethod
    def options(cls, *names: str) -> Iterator[Option]:
        """These options, by default all, in the order of the model's fields; KeyError for a name that no field has."""
        for name in names or cls.model_fields:
            yield Option(name, cls.model_fields[name])

    def changed(self, **values: Any) -> Self:
        """A copy with other values, checked as at the beginning."""
        return type(self)(**{**dict(self), **values})

    def recorded(self) -> dict[str, Any]:
        """The options that the manifest of an export tells, as JSON has them."""
        values = {option.name: getattr(self, option.name) for option in self.options() if option.flag.recorded}
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def any_of(choices: Iterable[Any]) -> str:
    """`a, b or c`."""
    *most, last = map(str, choices)
    return f"{', '.join(most)} or {last}" if most else last


def manual_table(model: type[Options]) -> str:
    """The options of a model as tables in Markdown, one for each group: flag, keyword in Python, values, meaning."""
    groups: dict[str, list[str]] = {}
    schemas = model.model_json_schema()["properties"]
    for option in model.options():
        flags = ", ".join(f"`{name}`" for name in option.flag.switches or option.names)
        said = option.help.replace("[", r"\[")  # else a link
        row = f"| {flags} | `{option.name}` | {_values(option, schemas[option.name])} | {said} |"
        groups.setdefault(option.flag.group, []).append(row)
    head = "| Flag | Python | Values | Meaning |\n| --- | --- | --- | --- |"
    return "\n\n".join("\n".join([f"### {title}", "", head, *rows]) for title, rows in groups.items()) + "\n"


def _values(option: Option, schema: dict[str, Any]) -> str:
    """What an option takes, from its JSON schema."""
    if option.flag.choices is not None:
        return any_of(f"`{choice}`" for choice in option.flag.choices)
    if option.is_switch:
        return "no value; in Python `True`"
    words = {"integer": "whole number", "number": "number", "string": "text", "path": "path", "boolean": "`True`"}
    limits = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most"}
    parts = [part for part in schema.get("anyOf", [schema]) if part.get("type") != "null"]
    kinds = any_of(words.get(part.get("format", part.get("type")), "list") for part in parts)
    found = [f"{limits[key]} {_number(part[key])}" for part in parts for key in limits if key in part]
    return ", ".join([kinds, *found])


def _refusal(model: type[Options], error: ValidationError) -> str:
    """The first thing that pydantic found, as one line."""
    errors = error.errors(include_url=False)
    unknown = [str(each["loc"][0]) for each in errors if each["type"] == "extra_forbidden"]
    if unknown:
        near = difflib.get_close_matches(unknown[0], model.model_fields, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"there is no option {', '.join(unknown)}{hint}"
    first = errors[0]
    option = Option(str(first["loc"][0]), model.model_fields[str(first["loc"][0])])
    if first["type"] == "missing":
        return f"{option.label} is required"
    context = first.get("ctx", {})
    reason = str(context["error"]) if "error" in context else _REASONS.get(first["type"], first["msg"])
    if first["type"] in _REASONS:
        reason = reason.format(**{name: _number(limit) for name, limit in context.items()})
    return f"{option.label} {printable(first['input']) or repr('')}: {reason}"


def _number(limit: Any) -> str:
    return f"{limit:g}" if isinstance(limit, float) else str(limit)


def _home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:  # ~somebody who has no home here
        raise ValueError(str(error)) from None


def _text_of_path(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


Count = Annotated[int, Field(ge=1, le=1_000_000)]
"""A number of things of which there is at least one; no figure of a pipeline comes near the upper limit."""
Folder = Annotated[Path, AfterValidator(_home)]
"""A path of this machine; a leading `~` is the user's home."""
Text = Annotated[str, BeforeValidator(_text_of_path)]
"""Text, or a path where a text may name one."""
