"""What a report of a problem needs, in one file, without what is nobody's business: tokens, names, home folders."""

from __future__ import annotations

import getpass
import json
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..files import read_end
from .diagnosis import Diagnosis

_TOLD = re.compile(r"NEURON|XLA|PJRT|HF_|HUGGINGFACE|TORCH|OMP_NUM_THREADS|LOCAL_WORLD_SIZE|LD_LIBRARY_PATH|PATH$")
_SECRET = re.compile(r"TOKEN|KEY|SECRET|PASS|CREDENTIAL|AUTH", re.IGNORECASE)
_HIDDEN = "***"
# Hugging Face's tokens, AWS's key ids, and a user or password in an address.
_SECRETS = re.compile(r"\bhf_[A-Za-z0-9]{6,}|\b(?:AKIA|ASIA)[A-Z0-9]{12,}|(?<=://)[^/\s@]+(?=@)")
_GIVEN_SECRET = re.compile(r"(--?[\w-]*(?:token|key|secret|password)[\w-]*[= ])(\S+)", re.IGNORECASE)
_LOGS = "*.failed-compilation*"
_LINES_OF_A_LOG = 200


def bundle(diagnosis: Diagnosis, output: Path) -> bytes:
    """The diagnosis, versions, devices, variables and the end of kept compiler logs, as JSON.

    Logs are looked for in `output`, a folder of exports.
    """
    host = diagnosis.host
    content: dict[str, Any] = {
        "conclusion": diagnosis.conclusion,
        "findings": [
            {"what": what, **asdict(finding), "verdict": finding.verdict}
            for what, finding in diagnosis.findings.items()
        ],
        "system": {"kernel": platform.release(), "machine": platform.machine(), "libc": " ".join(platform.libc_ver())},
        "python": ".".join(map(str, host.python)),
        "packages": dict(host.packages),
        "instance": host.instance,
        "driver": host.driver,
        "devices": list(host.devices),
        "cores": {str(device): count for device, count in host.cores.items()},
        "holders": [asdict(holder) for holder in host.holders],
        "environment": told_variables(host.environment),
        "logs": {log.name: _end(log) for log in sorted(output.glob(_LOGS)) if log.is_file()},
    }
    return json.dumps(_redacted_in(content, host.environment), indent=2, ensure_ascii=False).encode() + b"\n"


def _redacted_in(content: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(content, dict):
        return {name: _redacted_in(value, environment) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_redacted_in(value, environment) for value in content]
    return redacted(content, environment) if isinstance(content, str) else content


def told_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that matter, secrets hidden."""
    return {
        name: _HIDDEN if _SECRET.search(name) else value
        for name, value in sorted(environment.items())
        if _TOLD.search(name)
    }


def redacted(text: str, environment: Mapping[str, str]) -> str:
    """A text without the values of secret variables, tokens, the user's home and the user's name."""
    for name, value in environment.items():
        if _SECRET.search(name) and len(value) >= 6:
            text = text.replace(value, _HIDDEN)
    text = _GIVEN_SECRET.sub(rf"\1{_HIDDEN}", _SECRETS.sub(_HIDDEN, text))
    for home in {environment.get("HOME", ""), str(Path.home())} - {"", "/"}:
        text = text.replace(home.rstrip("/"), "~")
    text = re.sub(r"/(home|Users)/[^/\s\"':]+", "~", text)
    user = _user()
    return re.sub(rf"\b{re.escape(user)}\b", "user", text) if user and user not in ("root", "user") else text


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


def _end(log: Path) -> list[str]:
    return read_end(log, 1 << 16).splitlines()[-_LINES_OF_A_LOG:]
