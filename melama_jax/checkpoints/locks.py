"""Locks that the kernel frees with their holder, so that what was killed leaves none behind (flock(2))."""

from __future__ import annotations

import errno
import fcntl

# What a mount without locks answers; EBADF is NFS's answer for a folder.
_NO_LOCKS_HERE = {errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL, errno.EBADF}


def try_lock(opened: int) -> bool:
    """Takes the lock of an open file or folder at once; False where its file system knows no locks.

    Raises:
        BlockingIOError: another process has it.
    """
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno not in _NO_LOCKS_HERE:
            raise
        return False
    return True
