"""Where compiled kernels are kept between runs.

numba keys its on-disk cache by the file that holds a function and misses edits in the files that one imports. So the
folder's name carries a digest of every kernel's source: an edit anywhere compiles everything anew.
"""

import hashlib
import os
import stat
import sys
import tempfile
from pathlib import Path


def kernel_cache_dir() -> Path | None:
    """The first writable folder of: the user's cache, the temporary folder. None if neither can be written to."""
    name = f"kernels-{_source_digest()}"
    for base in (_user_cache_dir, _temporary_dir):
        try:
            folder = base() / name
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError:
            continue
    return None


def _user_cache_dir() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    if not base.is_absolute():
        raise FileNotFoundError(f"{base} depends on the working folder: the user has no home")
    return base / "gnnfast"


def _temporary_dir() -> Path:
    """A folder of this user alone: numba unpickles what it finds there, so nobody else may have put it there."""
    if not hasattr(os, "getuid"):
        return Path(tempfile.gettempdir()) / "gnnfast"
    folder = Path(tempfile.gettempdir()) / f"gnnfast-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o022 or not stat.S_ISDIR(status.st_mode):
        raise PermissionError(f"{folder} can be written to by others")
    return folder


def _source_digest() -> str:
    digest = hashlib.sha256(sys.version.encode())
    root = Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
