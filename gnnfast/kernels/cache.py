"""Where compiled kernels are kept between runs.

numba keys its on-disk cache by the file that holds a function and misses edits in the files that one imports. So the
folder's name carries a digest of every kernel's source: an edit anywhere compiles everything anew.
"""

import hashlib
import os
import sys
import tempfile
from pathlib import Path


def kernel_cache_dir() -> Path | None:
    """The first writable folder of: the user's cache, the temporary folder. None if neither can be written to."""
    name = f"kernels-{_source_digest()}"
    for base in (_user_cache_dir(), Path(tempfile.gettempdir()) / f"gnnfast-{_user_id()}"):
        folder = base / name
        if _is_writable(folder):
            return folder
    return None


def _user_cache_dir() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path(os.path.expanduser("~")) / ".cache") / "gnnfast"


def _user_id() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _source_digest() -> str:
    digest = hashlib.sha256(sys.version.encode())
    root = Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
