import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "dataset").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_keys_of_a_config_are_its_functions_arguments(path: Path):
    config = yaml.safe_load(path.read_text())
    module, _, name = config.pop("_target_").rpartition(".")
    assert module == "gnnfast.datasets"
    parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    nested = [choice for entry in config.pop("defaults", []) for choice in entry]
    config = {choice.partition("@")[2]: None for choice in nested} | config
    assert list(config) == list(parameters), "a config shows every argument, in the order of the function"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_defaults_of_a_config_are_those_of_its_function_unless_the_data_set_differs(path: Path):
    config = yaml.safe_load(path.read_text())
    name = config.pop("_target_").rpartition(".")[2]
    parameters = inspect.signature(getattr(importlib.import_module("gnnfast.datasets"), name)).parameters
    config.pop("defaults", None)
    for key, value in config.items():
        default = parameters[key].default
        if default is not inspect.Parameter.empty and value != "???":
            assert value == (list(default) if isinstance(default, tuple) else default), key


def test_importing_the_package_loads_no_heavy_library():
    heavy = ("torch_geometric", "sklearn", "pyarrow", "ogb", "pandas", "matplotlib")
    code = f"import sys, gnnfast.datasets; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
