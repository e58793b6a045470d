"""Hydra around a command: where configs are, and what a wrong one is answered."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException, InstantiationException, MissingConfigException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

Task = Callable[[DictConfig], Any]


def config_dir() -> Path:
    """The built-in configs: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def run_hydra(command: str, task: Task, arguments: list[str]) -> Any:
    """Composes the command's config from the arguments and runs the task on it; exits with one line on an error."""
    wants_traceback = "--traceback" in arguments or bool(os.environ.get("HYDRA_FULL_ERROR"))
    arguments = [argument for argument in arguments if argument != "--traceback"]
    sys.argv = [f"gnnfast {command}", *arguments]
    # Hydra would print its own account of an error and exit.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        return hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=command)(task)()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if wants_traceback:
            traceback.print_exc()
        is_usage = isinstance(error, HydraException | OmegaConfBaseException) and not isinstance(
            error, InstantiationException
        )
        message = explain_config(error, command, arguments) if is_usage else explain(error)
        hint = "" if wants_traceback else " (--traceback shows where)"
        print(f"gnnfast {command}: {message}{hint}", file=sys.stderr)
        sys.exit(2 if is_usage else 1)


def build(config: DictConfig, **known_by_the_run: Any) -> Any:
    """Calls the config's `_target_` with its keys, and with what only the run knows."""
    # Partial: Hydra would take data sets among the arguments for configs and convert them.
    return instantiate(config, _partial_=True, _convert_="all")(**known_by_the_run)


def explain(error: BaseException) -> str:
    """What went wrong, in one line."""
    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    message = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, ValueError | TypeError | OSError | ImportError | RuntimeError | ArithmeticError):
        message = f"{type(error).__name__}: {message}"
    notes = "; ".join(getattr(error, "__notes__", []))
    return f"{message} ({notes})" if notes else message


def explain_config(error: BaseException, command: str, arguments: list[str]) -> str:
    """What is wrong with the overrides, in one line that names the nearest valid word."""
    cause: BaseException = error
    if isinstance(cause, MissingConfigException) and cause.missing_cfg_file:
        group, _, choice = cause.missing_cfg_file.rpartition("/")
        options = [str(option) for option in cause.options or []]
        return f"there is no {group or 'config'} {choice!r}{_nearest(choice, options)}"
    text = " ".join(str(error).split())
    missing_key = re.search(r"Could not override '([^']+)'", text) or re.search(r"full_key: (\S+)", text)
    if missing_key and ("not in struct" in text or "Could not override" in text):
        key = missing_key.group(1)
        return f"there is no setting {key!r}{_nearest(key, _valid_keys(command, arguments))}"
    unknown_group = re.search(r"[Kk]ey '([^']+)' (?:is )?not in", text)
    if unknown_group:
        key = unknown_group.group(1)
        return f"there is no setting {key!r}{_nearest(key, _valid_keys(command, arguments))}"
    return text


def _nearest(word: str, options: list[str]) -> str:
    near = get_close_matches(word, options, n=1, cutoff=0.5)
    if near:
        return f": did you mean {near[0]!r}?"
    return f": there are {', '.join(options)}" if options else ""


def _valid_keys(command: str, arguments: list[str]) -> list[str]:
    """All settings of the config with the groups that the arguments choose, wrong arguments left out."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    kept: list[str] = []
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose(command)
        for argument in arguments:
            if argument.startswith("-") or "=" not in argument or "," in argument:
                continue
            try:
                config = compose(command, [*kept, argument])
                kept.append(argument)
            except Exception:
                continue
    return list(_flat_keys(OmegaConf.to_container(config)))


def _flat_keys(config: Any, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key, value in config.items():
        keys.append(f"{prefix}{key}")
        if isinstance(value, dict):
            keys += _flat_keys(value, f"{prefix}{key}.")
    return keys
