"""Locks on open files, which the operating system releases when their process ends, killed or not.

A lock tells the file of a running process from one that a killed process has left. It keeps no
other program from reading or removing the file.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import BinaryIO

if sys.platform == "win32":

    def lock(file: BinaryIO, *, shared: bool = False) -> bool:
        """Return True: Windows removes no file that a process has open, which serves as a lock."""
        return True

else:
    import fcntl

    def lock(file: BinaryIO, *, shared: bool = False) -> bool:
        """Lock an open file, until it is closed, without waiting.

        Args:
            file: that this process has open, for writing too unless `shared`, as NFS wants it.
            shared: whether others may have a shared lock at the same time.

        Returns:
            False if another process has the lock. True on a file system that knows no locks.
        """
        with suppress(OSError):
            kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            try:
                fcntl.flock(file.fileno(), kind | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True
