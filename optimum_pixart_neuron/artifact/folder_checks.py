"""Whether a folder is an export, of parts that are known here."""

from pathlib import PurePosixPath

from ..checkpoint.index import ModelIndex
from ..checkpoint.layout import INDEX
from ..components.common.copied import check_inside
from ..components.registry import COMPONENTS
from ..errors import ArtifactError, printable
from .compiled import AGAIN, CONFIG_FILE
from .configurations import check_configuration, read_copied
from .expected_files import is_known
from .manifest import MANIFEST_FILE
from .under_check import Artifact, Check


def _is_an_export(artifact: Artifact) -> str | None:
    if not (artifact.folder / INDEX).is_file():
        return f"it holds no {INDEX}, so it is no whole pipeline; give the output folder of an export, or {AGAIN}"
    if artifact.manifest is None and not artifact.compiled:
        return (
            "nothing in it is compiled; compile it with `optimum-cli export neuron` or"
            " from_pretrained(..., export=True)"
        )
    return None


def _known(artifact: Artifact) -> str | None:
    """Nothing but known files is listed, and none leads out of the folder."""
    manifest = artifact.manifest
    unregistered = [name for name in manifest.components if name not in COMPONENTS] if manifest else []
    if unregistered:
        return (
            f"it has a component {printable(unregistered[0])} that is not registered here; register it before loading"
            " (optimum_pixart_neuron.register_component)"
        )
    unknown = [name for name in manifest.files if not is_known(name)] if manifest else []
    if unknown:
        return f"{MANIFEST_FILE} lists {printable(unknown[0])}, which no export has; do not use it"
    for name in (INDEX, MANIFEST_FILE, *artifact.loadable):
        try:
            check_inside(artifact.folder / name, artifact.folder)
        except ValueError as error:
            return f"{name}: {error}; {AGAIN}"
    return None


def _index(artifact: Artifact) -> str | None:
    index = ModelIndex.read(artifact.folder / INDEX, ArtifactError, advice=AGAIN)
    others, manifest = index.others, artifact.manifest
    if manifest and manifest.pipeline not in (None, index.class_name):
        return f"{INDEX} names a {printable(index.class_name)}, its manifest a {manifest.pipeline}; {AGAIN}"
    if not others:
        return None
    return f"{INDEX} names {', '.join(others[:3])}, which PixArt does not have; do not use it"


def _components(artifact: Artifact) -> str | None:
    """All that the manifest lists is there, and all that a pipeline needs, whatever the manifest lists."""
    listed = artifact.manifest.files if artifact.manifest else ()
    folders = dict.fromkeys(PurePosixPath(name).parts[0] for name in listed if "/" in name)
    missing = [name for name in folders if not (artifact.folder / name).is_dir()]
    missing += [each.name for each in COMPONENTS.values() if each.required and each.name not in artifact.compiled]
    return f"{missing[0]}/ is missing, or nothing in it is compiled; {AGAIN}" if missing else None


def _ranks(artifact: Artifact) -> str | None:
    """The loaders go by the ranks in the configurations, everybody else by those in the manifest."""
    wanted = artifact.needs.ranks
    for name, compiled in artifact.compiled.items() if artifact.manifest else ():
        for number in (compiled.tensor_parallel_size, compiled.ranks):
            if number not in (1, wanted):
                return f"{name}/{CONFIG_FILE} is for {number} ranks, and the export has {wanted}; {AGAIN}"
    return None


def _configurations(artifact: Artifact) -> str | None:
    for name in artifact.compiled:
        check_configuration(artifact.folder / name, COMPONENTS[name])
    return None


def _copied(artifact: Artifact) -> str | None:
    """What is loaded beside programs is of known classes."""
    read_copied(artifact.folder)
    return None


FOLDER_CHECKS: tuple[Check, ...] = (_is_an_export, _known, _index, _components, _ranks)
CONTENT_CHECKS: tuple[Check, ...] = (_configurations, _copied)
"""When the files are known to be whole."""
