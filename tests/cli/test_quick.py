from __future__ import annotations

import gc
import sys
from pathlib import Path

import pytest

from gnnfast.cli.quick import import_quickly


@pytest.mark.parametrize("was_enabled", [True, False])
def test_the_collector_rests_while_modules_are_imported(
    was_enabled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    name = f"theirs_{was_enabled}"
    (tmp_path / f"{name}.py").write_text("import gc\nwas_enabled = gc.isenabled()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    if not was_enabled:
        gc.disable()
    try:
        import_quickly(name)
        assert sys.modules[name].was_enabled is False
        assert gc.isenabled() is was_enabled
    finally:
        gc.enable()
