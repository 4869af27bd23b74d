"""Two names exchanged in one step of the file system."""

import ctypes
import errno
import os
from pathlib import Path

# renameat2(2), Linux 3.15 and glibc 2.28; `linux/fs.h` and `fcntl.h` have the numbers.
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_NOT_OFFERED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}


def exchange(first: Path, second: Path) -> bool:
    """Have two paths of one file system change places, so that neither name is ever without a file.

    Returns:
        False where the system or the file system has no such call; then nothing has changed. A call that is refused,
        as without permission, is an OSError.
    """
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NOT_OFFERED:
        return False
    raise OSError(number, os.strerror(number), str(first), None, str(second))
