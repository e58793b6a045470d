"""Every shipped sampler, by the name of its config."""

from __future__ import annotations

import inspect
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import get_object, instantiate

from gnnfast.cli.hydra_app import config_dir
from gnnfast.graph import Dataset

SAMPLERS = sorted(path.stem for path in (config_dir() / "sampler").glob("*.yaml"))


def make_sampler(name: str, dataset: Dataset, **settings: Any) -> Any:
    """The sampler of a config, with some of its settings changed."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", [f"sampler={name}"]).sampler
    known = {"graph": dataset.graph, "seed_nodes": dataset.train_ids, "labels": dataset.labels}
    asked = inspect.signature(get_object(config._target_)).parameters
    return instantiate(config, _partial_=True, _convert_="all", **settings)(
        **{key: value for key, value in known.items() if key in asked}
    )
