"""What a user gets for a mistake: one line that says what to do, a non-zero exit, no run that looks finished."""

from pathlib import Path

import numpy as np
import pytest

from tests.cli.command import gnnfast, result_of, run_folders

FILES = ("dataset=files", "dataset.edges=edges.npy", "dataset.features=x.npy", "dataset.labels=y.npy")


@pytest.fixture
def own_data(tmp_path: Path) -> Path:
    """A user's graph of 60 nodes, right in every way."""
    generator = np.random.default_rng(0)
    np.save(tmp_path / "edges.npy", generator.integers(0, 60, (2, 200)))
    np.save(tmp_path / "x.npy", generator.normal(size=(60, 4)).astype(np.float32))
    np.save(tmp_path / "y.npy", np.arange(60) % 3)
    return tmp_path


def complaint(folder: Path, *arguments: str, exit_code: int) -> str:
    """The one line on stderr; checks the rest."""
    run = gnnfast("train", "training.epochs=1", *arguments, folder=folder)
    assert run.exit_code == exit_code, run.stderr
    assert run.stderr.startswith("gnnfast train: ")
    assert run.stderr.count("\n") == 1
    assert "Traceback" not in run.stdout + run.stderr
    for run_folder in run_folders(folder):
        assert result_of(run_folder)["status"] == "failed"
    return run.stderr


@pytest.mark.parametrize(
    ("argument", "hint"),
    [
        ("dataset=coraa", "there is no dataset 'coraa': did you mean cora?"),
        ("model=saeg", "there is no model 'saeg': did you mean sage?"),
        ("experiment=planetoid/cora_saeg", "did you mean cora_sage?"),
        ("training.epoch=3", "there is no setting 'training.epoch': did you mean training.epochs?"),
        ("optimzer=adam", "did you mean optimizer?"),
        ("trainin.patience=3", "did you mean training.patience?"),
        ("model.heads=3", "model has conv, "),
        ("training.patience", "missing EQUAL"),
    ],
)
def test_an_unknown_word_is_answered_with_the_nearest(tmp_path, argument, hint):
    assert hint in complaint(tmp_path, argument, exit_code=2)


@pytest.mark.parametrize(
    ("argument", "hint"),
    [
        ("sampler.fanouts=[5,5,5]", "3 blocks"),
        ("sampler.fanouts=[0,5]", "fanouts must be positive"),
        ("training.devices=64", "training.devices=64, but there"),
        ("training.precision=fp8", "training.precision must be one of"),
        ("loader.batch_size=0", "batch_size"),
        ("sampler._target_=nowhere.Sampler", "nowhere"),
        ("+model.wings=2", "wings"),
        ("seed=abc", "seed must be an integer"),
        ("training.gradient_clip=abc", "training.gradient_clip must be a number, got 'abc'"),
        ("training.gradient_clip=-1", "training.gradient_clip must be positive or null"),
        ("model.residual=flase", "model.residual must be true or false, got 'flase'"),
        ("loader.batch_size=1e3", "loader.batch_size must be an integer, got 1000.0"),
        ("model.jk=foo", "jk must be last, cat, max, lstm or null"),
        ("model.hidden_channels=0", "hidden_channels must be at least 1"),
        ("sampler.fanouts=10", "fanouts must be positive"),
        ("sampler.fanouts=[1.5,2]", "fanouts must be positive"),
        ("dataset=files", "dataset.edges is missing: set dataset.edges=VALUE"),
        ("dataset.fractions=[0,0.5,0.5]", "empty"),
        ("dataset.fractions=[0.9,0.9,0.9]", "fractions"),
    ],
)
def test_settings_that_cannot_work_say_why(tmp_path, argument, hint):
    assert hint in complaint(tmp_path, argument, "training.accelerator=cpu", exit_code=1)


def test_own_data_that_is_right_trains(own_data):
    run = gnnfast("train", "training.epochs=1", *FILES, folder=own_data)

    assert run.exit_code == 0, run.stderr


def test_edges_out_of_range_are_named(own_data):
    np.save(own_data / "edges.npy", np.array([[0, 1], [2, 60]]))

    assert "60" in complaint(own_data, *FILES, exit_code=1)


def test_features_that_are_not_numbers_are_named(own_data):
    features = np.load(own_data / "x.npy")
    features[17, 2] = np.nan
    np.save(own_data / "x.npy", features)

    assert "17" in complaint(own_data, *FILES, exit_code=1)


def test_labels_outside_the_classes_are_named(own_data):
    assert "y.npy: classes are numbered 0 to 1" in complaint(own_data, *FILES, "dataset.num_classes=2", exit_code=1)


def test_missing_and_truncated_files_are_named(own_data):
    whole = (own_data / "x.npy").read_bytes()
    (own_data / "x.npy").write_bytes(whole[:200])
    assert "x.npy" in complaint(own_data, *FILES, exit_code=1)

    (own_data / "x.npy").unlink()
    assert "x.npy" in complaint(own_data, *FILES, exit_code=1)


def test_a_data_set_that_is_not_there_says_where_it_was_expected(tmp_path):
    line = complaint(tmp_path, "dataset=cora", f"dataset.root={tmp_path}/data", exit_code=1)

    assert f"{tmp_path}/data" in line
    assert "https://" in line


def test_a_run_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")

    assert "file/x" in complaint(tmp_path, f"hydra.run.dir={tmp_path}/file/x", exit_code=1)


def test_a_broken_config_of_the_user_is_named(tmp_path):
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "broken.yaml").write_text("conv: [sage\n")

    assert "broken.yaml" in complaint(tmp_path, "model=broken", "--config-dir", "mine", exit_code=1)


def test_an_error_leaves_no_trace_in_the_process(tmp_path):
    for _ in range(2):
        assert "3 blocks" in complaint(tmp_path, "sampler.fanouts=[5,5,5]", exit_code=1)


def test_the_traceback_is_there_for_the_asking(tmp_path):
    run = gnnfast("train", "sampler.fanouts=[0]", "--traceback", folder=tmp_path)

    assert run.exit_code == 1
    assert "Traceback" in run.stderr
