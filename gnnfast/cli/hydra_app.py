"""Hydra around a command: where configs are, and what a wrong one is answered."""

from __future__ import annotations

import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Any

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob
from hydra.errors import ConfigCompositionException, HydraException, InstantiationException, MissingConfigException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

Task = Callable[[DictConfig], Any]


def config_dir() -> Path:
    """The built-in configs: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def run_hydra(command: str, task: Task, arguments: list[str]) -> None:
    """Composes the command's config from the arguments and runs the task on it, in a sweep once per job.

    An error is one line, and the exit code 2 if the arguments were wrong, 1 if the task failed. In a sweep the other
    jobs go on.
    """
    from gnnfast.cli.sweeper import install_sweeper

    with in_one_line(command, arguments) as report:

        def guarded(config: DictConfig) -> Any:
            try:
                return task(config)
            except Exception as error:
                report(error)
                return None

        install_sweeper()
        arguments = [_expand_glob(argument, arguments) for argument in arguments if argument != "--traceback"]
        sys.argv = [f"gnnfast {command}", *arguments]
        hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=command)(guarded)()


@contextmanager
def in_one_line(command: str, arguments: list[str]) -> Iterator[Callable[[Exception], None]]:
    """Around a command: says in a line what goes wrong, and exits.

    Args:
        command: Its name.
        arguments: What it was given; with `--traceback` an error comes with where it was raised.

    Yields:
        A function to report an error that the command outlives for now: it exits in the end.
    """
    from gnnfast.cli.sweeper import JobsRejected

    full_error = os.environ.get("HYDRA_FULL_ERROR")
    wants_traceback = "--traceback" in arguments or bool(full_error)
    failures = 0

    def complain(error: BaseException, message: str) -> None:
        if wants_traceback:
            traceback.print_exception(error)
        hint = "" if wants_traceback else " (--traceback shows where)"
        print(f"gnnfast {command}: {message}{hint}", file=sys.stderr)

    def report(error: Exception) -> None:
        nonlocal failures
        failures += 1
        complain(error, explain(error))

    # Hydra would print its own account of an error and exit.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield report
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read the output has had enough; what is left in the buffer goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except JobsRejected as rejected:
        for message, error in rejected.errors.items():
            complain(error, message)
        sys.exit(2)
    except (HydraException, OmegaConfBaseException) as error:
        complain(error, explain_config(error, command, arguments))
        sys.exit(2)
    except Exception as error:
        complain(error, explain(error))
        sys.exit(1)
    finally:
        if full_error is None:
            del os.environ["HYDRA_FULL_ERROR"]
    if failures:
        sys.exit(1)


def build(config: DictConfig, **known_by_the_run: Any) -> Any:
    """Calls the config's `_target_` with its keys, and with what only the run knows.

    Raises:
        ValueError: If a key that must be set is not, or its value is no number, or no true or false, where the target's
            signature asks for one.
    """
    _check_values(config)
    # Partial: Hydra would take data sets among the arguments for configs and convert them.
    return instantiate(config, _partial_=True, _convert_="all")(**known_by_the_run)


def _check_values(config: DictConfig) -> None:
    for key in sorted(OmegaConf.missing_keys(config)):
        raise ValueError(f"{key} is missing: set {key}=VALUE")
    kinds: dict[str, tuple[Any, str]] = {
        "bool": (bool, "true or false"),
        "int": (int, "an integer"),
        "float": ((int, float), "a number"),
    }
    try:
        parameters = inspect.signature(get_object(config._target_)).parameters
    except (TypeError, ValueError):
        return
    for name, parameter in parameters.items():
        annotation = getattr(parameter.annotation, "__name__", str(parameter.annotation))
        kind, _, optional = annotation.partition(" | ")
        if name not in config or kind not in kinds or optional not in ("", "None"):
            continue
        value = config[name]
        type_, words = kinds[kind]
        if not isinstance(value, type_) or (kind != "bool" and isinstance(value, bool)):
            if value is None and optional:
                continue
            raise ValueError(f"{config._get_full_key(name)} must be {words}, got {value!r}")


def explain(error: BaseException) -> str:
    """What went wrong, in one line."""
    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    message = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MissingMandatoryValue):
        key = message.removeprefix("Missing mandatory value: ").split()[0]
        return f"{key} is missing: set {key}=VALUE"
    if not isinstance(error, ValueError | TypeError | OSError | ImportError | RuntimeError | ArithmeticError):
        message = f"{type(error).__name__}: {message}"
    notes = "; ".join(getattr(error, "__notes__", []))
    return f"{message} ({notes})" if notes else message


def explain_config(error: BaseException, command: str, arguments: list[str]) -> str:
    """What is wrong with the overrides, in one line that names the nearest valid word."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        return f"there is no {group or 'config'} {choice!r}{_nearest(choice, _choices(group, arguments))}"
    text = " ".join(str(error).split())
    unknown = re.search(r"Could not override '([^']+)'", text) or re.search(r"[Kk]ey '([^']+)' (?:is )?not in", text)
    if unknown:
        key = unknown.group(1)
        return f"there is no setting {key!r}{_nearest(key, _valid_keys(command, arguments))}"
    return text.split(" See https://hydra.cc")[0]


def _nearest(word: str, options: list[str]) -> str:
    """The option meant, or else all that stand in its place."""
    group, _, name = word.rpartition(".")
    places = [option.rpartition(".") for option in options]
    siblings = [place[2] for place in places if place[0] == group and not place[2].startswith("_")]
    near = get_close_matches(name, siblings, n=1) if siblings else get_close_matches(word, options, n=1)
    if near:
        return f": did you mean {group + '.' if group and siblings else ''}{near[0]}?"
    return f": {group or 'there'} {'has' if group else 'are'} {', '.join(siblings)}" if siblings else ""


def _expand_glob(argument: str, arguments: list[str]) -> str:
    """`group=glob(folder/*)` as `group=folder/a,folder/b`: Hydra's own glob does not look into folders."""
    if "=glob(" not in argument:
        return argument
    override = OverridesParser.create().parse_override(argument)
    if not isinstance(override._value, Glob):
        return argument
    matches = override._value.filter(_choices(override.key_or_group, arguments))
    if not matches:
        raise ConfigCompositionException(f"{argument} matches no config")
    return f"{override.key_or_group}={','.join(matches)}"


def _choices(group: str, arguments: list[str]) -> list[str]:
    """Configs of a group and of the folders in it, built-in ones and those of a folder given by --config-dir."""
    roots = [config_dir()]
    for flag, value in pairwise([*arguments, ""]):
        if flag in ("--config-dir", "-cd"):
            roots.append(Path(value))
        elif flag.startswith("--config-dir="):
            roots.append(Path(flag.partition("=")[2]))
    folders = [root / group for root in roots]
    return sorted(
        {path.relative_to(folder).with_suffix("").as_posix() for folder in folders for path in folder.rglob("*.yaml")}
    )


def _valid_keys(command: str, arguments: list[str]) -> list[str]:
    """All settings of the config with the groups that the arguments choose, wrong arguments left out."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    kept: list[str] = []
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose(command)
        for argument in arguments:
            if argument.startswith("-") or "=" not in argument:
                continue
            try:
                config = compose(command, [*kept, argument])
                kept.append(argument)
            except (HydraException, OmegaConfBaseException):
                continue
    return list(_flat_keys(OmegaConf.to_container(config)))


def _flat_keys(config: Any, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key, value in config.items():
        keys.append(f"{prefix}{key}")
        if isinstance(value, dict):
            keys += _flat_keys(value, f"{prefix}{key}.")
    return keys
