"""Every shipped config names a constructor's own arguments."""

import inspect
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from gnnfast.cli.hydra_app import config_dir

GROUPS = ("sampler", "loader", "model", "decoder", "optimizer", "scheduler", "training", "dataset")
CONFIGS = [path for group in GROUPS for path in sorted((config_dir() / group).glob("*.yaml"))]
EXPERIMENTS = sorted((config_dir() / "experiment").rglob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_keys_of_a_config_are_arguments_of_its_target(path: Path):
    config = OmegaConf.load(path)
    if not config:
        assert path.stem == "none"
        return
    target = get_object(config._target_)
    keys = [key for key in config if key not in ("_target_", "_partial_", "defaults")]

    signature = inspect.signature(target)

    signature.bind_partial(**dict.fromkeys(keys))
    variadic = any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values())
    named = set(signature.parameters)
    # What a model passes on to its convolutions is checked where the model is built.
    assert variadic or set(keys) <= named


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_recipe_composes_and_names_its_own_command(path: Path):
    name = path.relative_to(config_dir() / "experiment").with_suffix("").as_posix()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", [f"experiment={name}"])

    assert isinstance(config, DictConfig)
    assert f"gnnfast train experiment={name}" in path.read_text()
    assert len(config.sampler.get("fanouts", range(config.model.num_layers))) == config.model.num_layers


def test_twelve_planetoid_recipes_sample_small_batches():
    names = [path.stem for path in EXPERIMENTS if path.parent.name == "planetoid"]
    assert sorted(names) == sorted(
        f"{d}_{m}" for d in ("cora", "citeseer", "pubmed") for m in ("gcn", "gat", "sage", "gin")
    )
    for name in names:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            config = compose("train", [f"experiment=planetoid/{name}"])
        assert config.loader.batch_size <= 64
        assert all(1 <= fanout <= 10 for fanout in config.sampler.fanouts)
