"""Pickled files, of which only arrays, matrices and containers come out."""

from __future__ import annotations

import io
import os
import pickle
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from gnnfast.runtime.reading import reading

_MODULES = {
    "builtins": ("list", "dict", "set", "frozenset", "tuple", "int", "float", "complex", "bool", "bytearray", "slice"),
    "collections": ("defaultdict", "OrderedDict", "Counter", "deque"),
    "_codecs": ("encode",),
    "copyreg": ("_reconstructor",),
    "numpy": ("ndarray", "dtype"),
    "numpy.core.multiarray": ("_reconstruct", "scalar"),
    "numpy._core.multiarray": ("_reconstruct", "scalar"),
    "numpy._core.numeric": ("_frombuffer",),
    "numpy.core.numeric": ("_frombuffer",),
}
_SPARSE = re.compile(r"scipy\.sparse\.(_?(csr|csc|coo|lil|dok|dia|bsr)|_matrix)")
_watching: ContextVar[bool] = ContextVar("watching", default=False)


def is_harmless(module: str, name: str) -> bool:
    """Whether a pickled file may name this: what builds arrays, sparse matrices and containers, and runs nothing."""
    # As Python 2 called it.
    module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
    return name in _MODULES.get(module, ()) or bool(_SPARSE.fullmatch(module))


def load_arrays(path: Path) -> Any:
    """The arrays, sparse matrices and containers of a pickled file, of Python 2 as well.

    Raises:
        ValueError: If the file is not whole, names anything else, or an array is larger than the file.
    """
    with reading(path, "a whole file of this data set"), path.open("rb") as file:
        return _ArrayUnpickler(file, encoding="latin1").load()


_Unpickler: Any = pickle._Unpickler  # type: ignore[attr-defined]


class _ArrayUnpickler(_Unpickler):
    """The one in Python: the one in C takes numbers in the file for sizes of memory."""

    def find_class(self, module: str, name: str) -> Any:
        if not is_harmless(module, name):
            raise pickle.UnpicklingError(f"{module}.{name} has no business in a file of arrays")
        if _SPARSE.fullmatch(module):
            import scipy.sparse

            return getattr(scipy.sparse, name)
        if module == "numpy" and name == "dtype":
            return _dtype_of_numbers
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)

    def load_build(self) -> None:
        """Of a type's state takes the order of bytes alone: the rest says how NumPy is to handle memory."""
        dtype = self.stack[-2]
        if isinstance(dtype, np.dtype):
            ordered = dtype.newbyteorder(self.stack.pop()[1])
            self.stack[-1] = ordered
            self.memo.update({key: ordered for key, value in self.memo.items() if value is dtype})
            return
        super().load_build()
        _check_format(self.stack[-1])

    def load_reduce(self) -> None:
        """Calls what the file names, and checks a matrix that it made."""
        super().load_reduce()
        _check_format(self.stack[-1])

    dispatch = _Unpickler.dispatch | {pickle.BUILD[0]: load_build, pickle.REDUCE[0]: load_reduce}


def _check_format(made: Any) -> None:
    """Raises ValueError if a sparse matrix has columns or rows that it does not have: SciPy would write beside it."""
    if type(made).__module__.startswith("scipy.sparse"):
        checks = getattr(made, "check_format", None) or getattr(made, "_check", None)
        if checks is None:
            raise pickle.UnpicklingError(f"a {type(made).__name__} has no business in a file of arrays")
        checks()


def _dtype_of_numbers(code: Any, *flags: Any) -> np.dtype:
    dtype: np.dtype = np.dtype(code)
    if dtype.kind not in "biufOSU":
        raise pickle.UnpicklingError(f"an array of {dtype} has no business in a file of numbers")
    return dtype


@contextmanager
def only_tensors() -> Iterator[None]:
    """Meanwhile torch.load reads nothing but tensors and PyG's graphs, and unpickling in this thread what is harmless.

    Whoever calls them: PyG reads its own files by `torch.load(weights_only=False)` where its classes are not allowed.

    Raises:
        pickle.UnpicklingError: In place of loading what is refused.
    """
    import torch
    from torch_geometric.data.data import Data, DataEdgeAttr, DataTensorAttr
    from torch_geometric.data.storage import GlobalStorage

    _install_hook()
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before, token = os.environ.get(name), _watching.set(True)
    os.environ[name] = "1"
    try:
        with _array_loaders(), torch.serialization.safe_globals([Data, DataEdgeAttr, DataTensorAttr, GlobalStorage]):
            yield
    except pickle.UnpicklingError as error:
        # torch's message begins with how to load the file all the same.
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise pickle.UnpicklingError(f"{named[1]} has no business in a file of tensors") if named else error from error
    finally:
        _watching.reset(token)
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def _array_loaders() -> Iterator[None]:
    """Meanwhile pickle.load and pickle.loads, in this thread, read arrays alone.

    The hook does not suffice: what a file says of NumPy's types can end the process.
    """
    load, loads = pickle.load, pickle.loads

    def load_arrays(file: Any, **options: Any) -> Any:
        return _ArrayUnpickler(file, **options).load() if _watching.get() else load(file, **options)

    def loads_arrays(data: Any, /, **options: Any) -> Any:
        return _ArrayUnpickler(io.BytesIO(data), **options).load() if _watching.get() else loads(data, **options)

    pickle.load, pickle.loads = load_arrays, loads_arrays  # type: ignore[assignment]
    try:
        yield
    finally:
        pickle.load, pickle.loads = load, loads


@cache
def _install_hook() -> None:
    """Has Python ask about everything that a pickled file names; such a hook cannot be taken away again."""

    def on_event(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "pickle.find_class" and _watching.get() and not is_harmless(*arguments):
            module, name = arguments
            raise pickle.UnpicklingError(f"{module}.{name} has no business in a file of arrays")

    sys.addaudithook(on_event)
