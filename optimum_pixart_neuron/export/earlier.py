"""`--programs_from`: the programs of an export that is there already, for those of a new one that are the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..artifact.compiled import PROGRAM_FILE, PROGRAM_PATH
from ..artifact.manifest import MANIFEST_FILE, Manifest
from ..artifact.manifest_records import ProgramRecipe
from ..artifact.pull import pull
from ..checkpoint.address import Address
from ..errors import ArtifactError, HubError, InvalidExportOption
from ..files import FileRecord
from .options import ExportOptions
from .recipes import by_file, difference

_FLAG = "--programs_from"


@dataclass(frozen=True)
class EarlierExport:
    """An export whose programs may be taken.

    Attributes:
        named: what the user called it.
        folder: on this machine.
        manifest: of the folder.
    """

    named: str
    folder: Path
    manifest: Manifest

    @classmethod
    def of(cls, options: ExportOptions) -> EarlierExport | None:
        """The export that the options name; None where they name none. Of a repository, only programs are downloaded.

        Raises:
            InvalidExportOption: there is no export with a manifest at that place.
            ArtifactError: its manifest is damaged.
            HubError: the repository cannot be read.
        """
        if options.programs_from is None:
            return None
        named = options.programs_from
        address = Address.parse(_FLAG, named)
        if address.folder is not None:
            folder = address.folder
        elif address.path:
            raise InvalidExportOption(f"{_FLAG} {named}: an export is a whole repository; leave out /{address.path}")
        else:
            try:
                folder = pull(
                    address.on_the_hub,
                    revision=address.revision,
                    token=options.token,
                    cache_dir=options.cache_dir,
                    local_files_only=options.local_files_only,
                    programs_only=True,
                )
            except HubError as error:
                raise HubError(f"{_FLAG}: {error}") from None
        manifest = Manifest.read(folder)
        if manifest is None:
            raise InvalidExportOption(
                f"{_FLAG} {named}: there is no {MANIFEST_FILE} in it; give an export that this package made"
            )
        return cls(named, folder, manifest)

    def file_of(self, name: str, wanted: Sequence[ProgramRecipe]) -> str | None:
        """The path, in the export, of a component's file of these programs; None where there is none."""
        files = self._files(name).items()
        return next((f"{name}/{file}" for file, recipes in files if recipes == tuple(wanted)), None)

    def why_not(self, name: str, wanted: Sequence[ProgramRecipe]) -> str:
        """What keeps a component's programs from being taken, in words."""
        if not wanted:
            return "the program is asked to hold its weights"
        if name not in self.manifest.components:
            return "it has no such component"
        files = self._files(name).values()
        if not files:
            return "its program holds its weights, or an earlier version of this package made it"
        return difference(wanted, next(iter(files)))

    def _files(self, name: str) -> dict[str, tuple[ProgramRecipe, ...]]:
        """As `CompileJob.files`; the names are the manifest's, so only such are among them as programs have."""
        component = self.manifest.components.get(name)
        if component is None:
            return {}
        files = by_file([each.file for each in component.programs] or [PROGRAM_FILE], component.recipes)
        return {file: recipes for file, recipes in files.items() if PROGRAM_PATH.fullmatch(file)}

    def program(self, file: str) -> Path:
        """A file of programs, by its path in the export; any other than the manifest lists is an ArtifactError."""
        path = self.folder / file
        try:
            whole = FileRecord.of(path) == self.manifest.files.get(file)
        except OSError as error:
            raise ArtifactError(f"{_FLAG}: {path} cannot be read: {error.strerror}; give another export") from None
        if not whole:
            raise ArtifactError(f"{_FLAG}: {path} is not what {MANIFEST_FILE} lists; give another export")
        return path
