"""The examination, top to bottom, in the order in which things have to be mended."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..hardware import FAMILIES, Instance, get_instance
from ..hub import HUB_ERRORS, hub_reason
from . import resources, software
from .findings import Finding
from .inventory import Host, Places
from .needs import MODEL, Needs

_HUB_PATIENCE_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """A machine as it was seen, and what was found, by what was looked at, in the order in which it is mended."""

    host: Host
    findings: Mapping[str, Finding]

    @property
    def ready(self) -> bool:
        """Whether nothing has to be done."""
        return not any(finding.remedy for finding in self.findings.values())

    @property
    def conclusion(self) -> str:
        """The last sentence: that the machine is ready, or the one thing to do first."""
        for what, finding in self.findings.items():
            if finding.remedy:
                return f"not ready: {what}: {finding.remedy}"
        return (
            "ready" if self.host.has_sdk else "ready, on the emulator: what is exported here runs on no Neuron device"
        )


def diagnose(output: Path, *, instance: Instance | None = None, places: Places | None = None) -> Diagnosis:
    """Examine this machine. Nothing is written, no device is opened.

    Args:
        output: folder in which an export would be written.
        instance: that the export would be for; by default this machine, else what the emulator is here, else
            trn1.32xlarge.
        places: where the machine says what it is.
    """
    from huggingface_hub.constants import HF_HUB_CACHE

    hub_cache = Path(HF_HUB_CACHE)
    with ThreadPoolExecutor(1) as network:
        asked = network.submit(hub_problem)
        host = Host.seen(places or Places())
        target = (
            instance or resources.instance_of(host) or resources.emulated_on(host) or get_instance(FAMILIES["trn1"])
        )
        needs = Needs.of(target)
        looked = {
            "Python": software.check_python(host),
            "Neuron SDK": software.check_sdk(host),
            "torch": software.check_torch(host),
            "packages": software.check_packages(host),
            "compiler": software.check_compiler(host),
            "driver": software.check_driver(host),
            "devices": resources.check_devices(host),
            "cores": resources.check_cores(host, needs),
            "memory": resources.check_memory(host, needs),
            "disk": resources.check_disk(needs, output, hub_cache),
            "cache": resources.check_caches(host, hub_cache),
            "Hub": resources.check_hub(asked.result(), hub_cache, needs),
        }
    findings = {what: finding for what, finding in looked.items() if finding is not None}
    return Diagnosis(host=host, findings=findings)


def hub_problem() -> str | None:
    """Why the Hub does not give the released model to this user; None if it does."""
    from huggingface_hub import HfApi
    from huggingface_hub.constants import HF_HUB_OFFLINE

    if HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        HfApi().model_info(MODEL, timeout=_HUB_PATIENCE_S)
    except HUB_ERRORS as error:
        return hub_reason(error)
    return None
