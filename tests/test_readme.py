"""What the README shows works as it stands there."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.command import gnnfast, result_of, run_folders
from tests.samplers import SAMPLERS

README = (Path(__file__).parents[1] / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = re.findall(r"^gnnfast (.+)$", README, flags=re.MULTILINE)


def test_the_sampler_of_the_readme_trains_from_the_working_folder(tmp_path: Path):
    (tmp_path / "my_samplers.py").write_text(PYTHON[0])
    (command,) = [command for command in COMMANDS if "my_samplers" in command and command.startswith("train")]

    run = gnnfast(*command.split(), "training.epochs=2", folder=tmp_path)

    assert run.exit_code == 0, run.stderr
    assert result_of(run_folders(tmp_path)[0])["test"]["accuracy"] > 0.3


def test_the_sampler_of_the_readme_takes_the_last_edges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from gnnfast.graph import CSCGraph

    (tmp_path / "my_samplers.py").write_text(PYTHON[0])
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("my_samplers", None)
    from my_samplers import RecentNeighborSampler

    graph = CSCGraph.from_edge_index(torch.tensor([[1, 2, 3, 0], [0, 0, 0, 3]]))
    batch = RecentNeighborSampler(graph, [2, 1]).sample(torch.tensor([0]), 0)

    assert batch.blocks[1].src_nodes.tolist() == [0, 2, 3]
    assert batch.blocks[1].edge_index.tolist() == [[1, 2], [0, 0]]
    assert batch.blocks[0].edge_index.tolist() == [[2, 0], [0, 2]]


def test_the_program_of_the_readme_runs(capsys: pytest.CaptureFixture[str]):
    exec(compile(PYTHON[1].replace("epochs=20", "epochs=3"), "README.md", "exec"), {})

    assert float(capsys.readouterr().out) > 0.5


def test_the_commands_of_the_readme_compose(tmp_path: Path):
    trains = [command for command in COMMANDS if command.startswith("train") and "-m" not in command]
    # What it goes on with was composed before.
    trains = [command for command in trains if "resume=" not in command]
    assert len(trains) >= 4
    for command in trains:
        run = gnnfast(*command.split(), "--cfg", "job", folder=tmp_path)
        assert run.exit_code == 0, run.stderr


def test_the_changed_import_of_the_readme_loads_what_pyg_would():
    from gnnfast.datasets import digits

    names: dict[str, Any] = {"data": digits().to_pyg()}
    exec(compile(PYTHON[2], "README.md", "exec"), names)

    batch = next(iter(names["loader"]))
    assert batch.batch_size == 256
    assert torch.equal(batch.x, names["data"].x[batch.n_id])


def test_the_verify_commands_of_the_readme_pass(tmp_path: Path):
    (tmp_path / "my_samplers.py").write_text(PYTHON[0])
    sys.modules.pop("my_samplers", None)
    commands = [command for command in COMMANDS if command.startswith("verify") and "-m" not in command]
    assert len(commands) == 2
    for command in commands:
        run = gnnfast(*command.split(), "draws=200", folder=tmp_path)
        assert run.exit_code == 0, run.stderr


def test_the_readme_lists_every_sampler():
    table = README.split("## Samplers")[1].split("## Measured")[0]
    listed = set(re.findall(r"`([a-z_]+)`", "".join(line.split("|")[1] for line in table.splitlines() if "|" in line)))
    assert listed - {"name"} == set(SAMPLERS)
