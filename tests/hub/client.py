"""What huggingface_hub reads when it is imported, for a process that has imported it already."""

from pathlib import Path
from types import SimpleNamespace


def client_settings(url: str, home: Path, patience_s: float) -> list[tuple[object, str, object]]:
    """Module, name and value of what makes it a client of this Hub and no other, which tries again at once."""
    from huggingface_hub import constants, file_download
    from huggingface_hub.utils import _http

    from optimum_pixart_neuron import hub

    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    impatient = SimpleNamespace(sleep=lambda seconds: None)
    return [
        (constants, "ENDPOINT", url),
        (constants, "HUGGINGFACE_CO_URL_TEMPLATE", template),
        (file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template),
        (constants, "HF_HUB_CACHE", str(home / "hub")),
        (constants, "HF_TOKEN_PATH", str(home / "token")),
        (constants, "HF_HUB_DOWNLOAD_TIMEOUT", patience_s),
        (constants, "HF_HUB_ETAG_TIMEOUT", 30.0),
        (constants, "HF_HUB_DISABLE_TELEMETRY", True),
        (constants, "DOWNLOAD_CHUNK_SIZE", 4096),  # bytes that a broken download loses at most
        (hub, "_PAUSES_S", (0.0,) * 4),
        (_http, "time", impatient),  # between requests
        (file_download, "time", impatient),  # between parts of a download
    ]
