import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from gnnfast.training import RunFolder
from tests.cli.command import gnnfast, result_of, run_folders

QUICK = ("training.epochs=3", "training.accelerator=cpu")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run on digits."""
    folder = tmp_path_factory.mktemp("finished")
    run = gnnfast("train", *QUICK, "model=gcn", folder=folder)
    assert run.exit_code == 0, run.stderr
    assert run.stderr == ""
    return run_folders(folder)[0]


def test_a_run_says_where_its_folder_is_and_fills_it(finished: Path):
    names = {path.relative_to(finished).as_posix() for path in finished.rglob("*") if path.is_file()}

    assert names >= {
        "result.json", "metrics.csv", "curves.png", "checkpoints/best.pt", "checkpoints/step-6.pt",
        ".hydra/config.yaml", "train.log",
    }  # fmt: skip
    assert result_of(finished)["status"] == "finished"
    assert f"run folder: {finished.relative_to(finished.parents[2])}" in (finished / "train.log").read_text()


def test_evaluate_repeats_the_metrics_of_the_run(finished: Path):
    run = gnnfast("evaluate", f"run={finished}", folder=finished.parents[2])

    assert run.exit_code == 0, run.stderr
    assert f'"accuracy": {result_of(finished)["test"]["accuracy"]}' in run.stdout


@pytest.mark.parametrize("suffix", ["parquet", "csv", "npz"])
def test_predict_writes_a_row_per_node(finished: Path, suffix: str, tmp_path: Path):
    output = tmp_path / f"predictions.{suffix}"

    run = gnnfast("predict", f"run={finished}", f"output={output}", "nodes=test", folder=tmp_path)

    assert run.exit_code == 0, run.stderr
    if suffix == "parquet":
        table = pq.read_table(output).to_pydict()
        nodes, probability = table["node"], table["probability_3"]
    elif suffix == "npz":
        arrays = np.load(output)
        nodes, probability = arrays["node"].tolist(), arrays["probability_3"].tolist()
    else:
        with open(output) as file:
            rows = list(csv.DictReader(file))
        nodes, probability = [int(row["node"]) for row in rows], [float(row["probability_3"]) for row in rows]
    assert len(set(nodes)) == 359
    assert all(0 <= value <= 1 for value in probability)


def test_evaluate_takes_one_split_or_several(finished: Path):
    one = gnnfast("evaluate", f"run={finished}", "splits=test", folder=finished)
    wrong = gnnfast("evaluate", f"run={finished}", "splits=[tset]", folder=finished)

    assert list(json.loads(one.stdout)) == ["test"]
    assert "splits must be of train, val, test, got tset" in wrong.stderr


def test_predict_writes_embeddings(finished: Path, tmp_path: Path):
    run = gnnfast("predict", f"run={finished}", "embeddings=true", f"output={tmp_path / 'h.parquet'}", folder=tmp_path)

    assert run.exit_code == 0, run.stderr
    assert pq.read_table(tmp_path / "h.parquet").num_columns == 1 + 64


def test_a_checkpoint_of_another_model_is_refused_in_one_line(finished: Path, tmp_path: Path):
    gnnfast("train", *QUICK, "model=sage", folder=tmp_path)
    other = run_folders(tmp_path)[0]
    state = RunFolder(finished).load_checkpoint("best")
    RunFolder(other).save_checkpoint("best", state)

    run = gnnfast("evaluate", f"run={other}", folder=tmp_path)

    assert run.exit_code == 1
    assert "is of another model" in run.stderr
    assert run.stderr.count("\n") == 1


def test_a_failed_rerun_leaves_nothing_of_the_run_before_it(tmp_path: Path):
    first = gnnfast("train", *QUICK, "hydra.run.dir=mine", folder=tmp_path)
    again = gnnfast("train", *QUICK, "hydra.run.dir=mine", "sampler.fanouts=[5]", folder=tmp_path)

    evaluated = gnnfast("evaluate", "run=mine", folder=tmp_path)

    assert (first.exit_code, again.exit_code, evaluated.exit_code) == (0, 1, 1)
    assert "the run in mine failed" in evaluated.stderr
    assert not (tmp_path / "mine" / "checkpoints" / "best.pt").exists()


def test_jobs_of_a_sweep_do_not_share_a_folder(tmp_path: Path):
    run = gnnfast("train", "-m", "seed=0,1", "hydra.sweep.subdir=same", *QUICK, folder=tmp_path)

    assert run.exit_code == 1
    assert "two jobs of the sweep share the folder" in run.stderr


def test_a_sweep_goes_on_after_a_failed_job(tmp_path: Path):
    run = gnnfast("train", "-m", "sampler.fanouts=[5],[5,5]", "seed=0,1", *QUICK, folder=tmp_path)

    results = [result_of(folder) for folder in run_folders(tmp_path)]
    assert run.exit_code == 1
    assert [result["status"] for result in results] == ["failed", "failed", "finished", "finished"]
    assert "but the model has 2 layers" in results[0]["error"]
    assert "2 failed" in run.stdout
    sweep = next((tmp_path / "runs").rglob("sweep.csv"))
    with open(sweep) as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["failed", "failed", "finished", "finished"]
    assert float(rows[3]["test"]) == results[3]["test"]["accuracy"]


def test_a_job_that_cannot_be_composed_leaves_the_others_running(tmp_path: Path):
    run = gnnfast("train", "-m", "model=sage,gcn,nosuch", "model.aggr=mean", *QUICK, folder=tmp_path)

    assert run.exit_code == 2
    assert [result_of(folder)["status"] for folder in run_folders(tmp_path)] == ["finished"]
    assert "there is no model 'nosuch'" in run.stderr
    assert "there is no setting 'model.aggr': model has conv, " in run.stderr
    assert run.stderr.count("\n") == 2


def test_glob_reaches_the_recipes_in_a_folder(tmp_path: Path):
    # A folder without data: every job is tried, and every one fails in a line of its own.
    run = gnnfast(
        "train", "-m", "experiment=glob(planetoid/*_gcn)", *QUICK, folder=tmp_path, GNNFAST_DATA=str(tmp_path / "none")
    )

    assert run.exit_code == 1
    assert len(run_folders(tmp_path)) == 3


def test_the_same_command_gives_the_same_curve_bit_for_bit(tmp_path: Path):
    curves = []
    for threads in (0, 1, 1):
        folder = tmp_path / f"{len(curves)}"
        folder.mkdir()
        gnnfast("train", *QUICK, f"loader.num_threads={threads}", folder=folder)
        with open(run_folders(folder)[0] / "metrics.csv") as file:
            curves.append([{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)])

    assert len(curves[0]) == 3
    assert curves[0] == curves[1] == curves[2]


def test_a_users_sampler_config_is_taken_at_its_word(tmp_path: Path):
    (tmp_path / "theirs.py").write_text(
        "class TheirSampler:\n"
        "    def __init__(self, graph, fanouts=(2, 2), tag=None):\n"
        "        raise ValueError(f'tag {tag}')\n"
    )
    (tmp_path / "configs" / "sampler").mkdir(parents=True)
    config = tmp_path / "configs" / "sampler" / "theirs.yaml"
    options = ("sampler=theirs", "--config-dir", "configs")

    config.write_text("_target_: theirs.TheirSampler\nfanoutz: [5, 5]\n")
    assert "fanoutz" in gnnfast("train", *QUICK, *options, folder=tmp_path).stderr

    config.write_text("_target_: theirs.TheirSampler\n")
    run = gnnfast("train", *QUICK, "sampler._target_=theirs.TheirSampler", "+sampler.tag=${seed}", folder=tmp_path)
    assert "tag 0" in run.stderr


def test_another_optimizer_is_not_given_what_it_does_not_take(tmp_path: Path):
    run = gnnfast("train", *QUICK, "optimizer._target_=torch.optim.RMSprop", "optimizer.lr=0.001", folder=tmp_path)
    assert run.exit_code == 0, run.stderr
    refused = gnnfast(
        "train", *QUICK, "optimizer._target_=torch.optim.RMSprop", "optimizer.fused=true", folder=tmp_path
    )
    assert "fused" in refused.stderr


def test_a_users_sampler_and_configs_are_found_in_the_working_folder(tmp_path: Path):
    (tmp_path / "mine.py").write_text(
        "from gnnfast.sampler import NeighborSampler\n"
        "class MySampler:\n"
        "    num_layers = 2\n"
        "    def __init__(self, graph, width):\n"
        "        self.inner = NeighborSampler(graph, [width, width])\n"
        "    def sample(self, seed_nodes, seed):\n"
        "        return self.inner.sample(seed_nodes, seed)\n"
    )
    (tmp_path / "configs" / "model").mkdir(parents=True)
    (tmp_path / "configs" / "model" / "tiny.yaml").write_text(
        "_target_: gnnfast.nn.GNN\nconv: sage\nnum_layers: 2\nhidden_channels: 8\n"
    )

    run = gnnfast(
        "train", *QUICK, "sampler._target_=mine.MySampler", "+sampler.width=4", "model=tiny", "--config-dir", "configs",
        folder=tmp_path,
    )  # fmt: skip

    assert run.exit_code == 0, run.stderr
    assert "MySampler" in run.stdout
