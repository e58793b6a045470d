"""Where compiled kernels are kept between runs.

numba keys its on-disk cache by the file that holds a function and misses edits in the files that one imports. So each
module's folder is named after a digest of its source and of all kernel modules it builds on: an edit compiles anew what
depends on it, and nothing else.
"""

import hashlib
import os
import re
import stat
import sys
import tempfile
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).resolve().parent
_IMPORT = re.compile(r"^from gnnfast\.kernels\.([\w.]+) import", re.MULTILINE)


def kernel_cache_dir() -> Path | None:
    """The first writable folder of: the user's cache, the temporary folder. None if neither can be written to."""
    for base in (_user_cache_dir, _temporary_dir):
        try:
            folder = base() / "kernels"
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


@cache
def source_digest(path: Path) -> str:
    """A digest of a kernel module's source, of the kernel modules it imports, and of theirs."""
    digest = hashlib.sha256(sys.version.encode())
    for source in sorted(_with_imports(path, {})):
        digest.update(source.name.encode())
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _with_imports(path: Path, found: dict[Path, None]) -> dict[Path, None]:
    if path not in found:
        found[path] = None
        for module in _IMPORT.findall(path.read_text()):
            imported = _ROOT.joinpath(*module.split(".")).with_suffix(".py")
            if imported.is_file():
                _with_imports(imported, found)
    return found
