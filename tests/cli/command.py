"""Running `gnnfast` as a user does, in an empty folder: in this process, since importing torch anew takes seconds."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from hydra.core.global_hydra import GlobalHydra

from gnnfast.cli.main import main


@dataclass
class Run:
    """What a command left: its exit code and what it wrote."""

    exit_code: int
    stdout: str
    stderr: str


def gnnfast(*arguments: str, folder: Path, **environment: str) -> Run:
    stdout, stderr = io.StringIO(), io.StringIO()
    exit_code = 0
    handlers = logging.root.handlers[:]
    with (
        contextlib.chdir(folder),
        mock.patch.dict(os.environ, {"COLUMNS": "200", **environment}),
        mock.patch.object(sys, "argv", ["gnnfast"]),
        mock.patch.object(sys, "path", sys.path[:]),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        try:
            main(list(arguments))
        except SystemExit as exit:
            exit_code = int(exit.code or 0)
        finally:
            GlobalHydra.instance().clear()
            for handler in logging.root.handlers:
                if handler not in handlers:
                    handler.close()
            logging.root.handlers[:] = handlers
    return Run(exit_code, stdout.getvalue(), stderr.getvalue())


def run_folders(folder: Path) -> list[Path]:
    return sorted(path.parent for path in (folder / "runs").rglob(".hydra"))


def result_of(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result
