"""What `pixart-serve` is asked for."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from ...errors import InvalidExportOption
from ...options import Count, Flag, Folder, Options, Text

_ADDRESS, _REPLICAS, _LIMITS = "Where it listens", "Replicas", "Limits of requests"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def _some(exports: list[str]) -> list[str]:
    if not exports:
        raise ValueError("name at least one export")
    return exports


class ServeOptions(Options):
    """The exports behind one server, its address, its replicas, and what it lets a request ask for."""

    exports: Annotated[list[Text], AfterValidator(_some), Flag(names=("exports",), nargs="+", metavar="EXPORT")] = (
        Field(
            description=(
                "Folders, or ids on the Hugging Face Hub, of compiled pipelines; a request names the folder or id as"
                " its model. NAME=EXPORT gives it another name."
            )
        )
    )
    host: Annotated[Text, Flag(group=_ADDRESS)] = Field(
        "127.0.0.1", description="Address to listen on; 0.0.0.0 for every network."
    )
    port: Annotated[int, Flag(group=_ADDRESS)] = Field(8000, ge=1, le=65535, description="Port to listen on.")
    api_key_file: Annotated[Folder | None, Flag(metavar="FILE", group=_ADDRESS)] = Field(
        None, description="File with the keys that requests may use, one a line; without it any key is accepted."
    )
    no_page: Annotated[bool, Flag(group=_ADDRESS)] = Field(False, description="Leave out the page at /.")
    replicas: Annotated[Count | None, Flag(group=_REPLICAS)] = Field(
        None, description="Pipelines of each export; default: as many as there are cores for."
    )
    max_replicas: Annotated[Count | None, Flag(group=_REPLICAS)] = Field(
        None, description="Let the number grow from --replicas (by default 1) up to this one while requests wait."
    )
    address: Annotated[Text | None, Flag(group=_REPLICAS)] = Field(
        None, description="Of a Ray cluster, such as auto or ray-head:6379; default: a Ray of this machine's own."
    )
    drain_timeout: Annotated[float, Flag(group=_REPLICAS)] = Field(
        20.0,
        ge=1,
        le=86400,
        description="Seconds from a SIGTERM until the command has ended, requests finished or not.",
    )
    default_steps: Annotated[int | None, Flag(group=_LIMITS)] = Field(
        None,
        ge=1,
        le=1000,
        description="Denoising steps of a request that names none; default: the export's, or 20.",
    )
    max_steps: Annotated[int, Flag(group=_LIMITS)] = Field(100, ge=1, le=1000, description="Denoising steps.")
    max_images: Annotated[int, Flag(group=_LIMITS)] = Field(10, ge=1, le=1000, description="Images of a request.")
    max_prompt_length: Annotated[int, Flag(group=_LIMITS)] = Field(
        4000, ge=1, le=100_000, description="Characters of a prompt."
    )
    max_body_bytes: Annotated[int, Flag(group=_LIMITS)] = Field(
        1 << 17, ge=1 << 10, le=1 << 24, description="Bytes of a request."
    )
    max_requests: Annotated[Count, Flag(group=_LIMITS)] = Field(
        64, description="Requests of an export at a time, drawn or waiting; further ones are answered with 429."
    )
    request_timeout: Annotated[float, Flag(group=_LIMITS)] = Field(
        600.0, gt=0, le=86400, description="Seconds until a request that is not drawn is answered with 504."
    )

    @model_validator(mode="after")
    def _fit_together(self) -> ServeOptions:
        if self.default_steps is not None and self.default_steps > self.max_steps:
            raise InvalidExportOption(f"--default_steps {self.default_steps}: --max_steps is {self.max_steps}")
        if self.max_replicas is not None and self.max_replicas < (self.replicas or 1):
            raise InvalidExportOption(f"--max_replicas {self.max_replicas}: --replicas is {self.replicas}")
        return self
