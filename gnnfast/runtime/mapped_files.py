"""Which file is behind a tensor that was mapped into memory."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

# Smaller tensors are not worth the search.
_SMALLEST_BYTES = 1 << 20


def file_behind(tensor: Tensor) -> tuple[str, int] | None:
    """Path, and offset of the first byte, of the file that holds exactly the tensor's bytes; Linux only.

    None for other memory, for files that are gone, and where pages were written to, which then differ from the file.

    Args:
        tensor: Contiguous, on the CPU.
    """
    smaps = Path("/proc/self/smaps")
    if tensor.nbytes < _SMALLEST_BYTES or not _is_in_a_file(tensor) or not smaps.exists():
        return None
    first, last = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
    found: tuple[str, int] | None = None
    for line in smaps.read_text().splitlines():
        words = line.split(maxsplit=5)
        if "-" in words[0] and not words[0].endswith(":"):
            begin, end = (int(address, 16) for address in words[0].split("-"))
            found = (words[5], int(words[2], 16) + first - begin) if begin <= first and last <= end else None
        elif found is not None and words[0] == "Anonymous:":
            return found if words[1] == "0" else None
    return None


def _is_in_a_file(tensor: Tensor) -> bool:
    """The same from a listing that takes no time, however much is mapped."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return False
    for line in maps.read_text().splitlines():
        words = line.split(maxsplit=5)
        begin, end = (int(address, 16) for address in words[0].split("-"))
        if begin <= tensor.data_ptr() < end:
            return words[4] != "0" and words[5].startswith("/") and not words[5].endswith(" (deleted)")
    return False
