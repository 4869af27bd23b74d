"""Changes to the TorchScript archives of programs, for tests of files that a stranger wrote."""

import io
import zipfile
from collections.abc import Callable

SETSTATE = """def __setstate__(self, state: Tuple[bool]) -> NoneType:
    _0 = torch.fill_(torch.from_file("{victim}", True, 4), 7.)
    return None
  def forward("""
"""Code of a method that writes a file while a program is loaded."""


def rewritten(archive: bytes, change: Callable[[str, bytes], dict[str, bytes] | bytes | None]) -> bytes:
    """The archive with each record as `change(name, content)` gives it: None leaves one out, a dict adds others."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(buffer, "w") as new:
        for entry in old.infolist():
            root, _, name = entry.filename.partition("/")
            content = change(name, old.read(entry))
            records = content if isinstance(content, dict) else {} if content is None else {name: content}
            for each, text in records.items():
                new.writestr(f"{root}/{each}", text)
    return buffer.getvalue()
