import json
import zipfile
from pathlib import Path

import pytest
import torch

from gnnfast.datasets import musae

# Four pages; 0 and 1 name each other, 3 names itself; page 3 has no feature, page 0 one of them twice.
EDGES = "id_1,id_2\n0,1\n1,0\n2,1\n3,3\n"
FEATURES = {"2": [2], "0": [0, 2, 0], "1": [1], "3": []}
TARGET = 'id,facebook_id,page_name,page_type\n1,7,"Ham, eggs",tvshow\n0,8,Käse,company\n2,9,c,company\n3,5,d,tvshow\n'


def write(root: Path, edges: str = EDGES, features: str = json.dumps(FEATURES), target: str = TARGET) -> None:
    texts = {"edges.csv": edges, "features.json": features, "target.csv": target}
    folder = root / "facebook_pages"
    folder.mkdir()
    for name, text in texts.items():
        (folder / f"facebook_{name}").write_text(text, encoding="utf-8")


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("git_web_ml/README.txt", "about")
        archive.writestr("git_web_ml/musae_git_edges.csv", EDGES)
        archive.writestr("git_web_ml/musae_git_features.json", json.dumps(FEATURES))
        archive.writestr("git_web_ml/musae_git_target.csv", TARGET)


def test_reads_loose_files(tmp_path: Path):
    write(tmp_path)
    dataset = musae("facebook_pages", tmp_path, fractions=(0.5, 0.25, 0.25))
    assert dataset.graph.to_edge_index().tolist() == [[1, 0, 2, 1], [0, 1, 1, 2]]
    assert dataset.features.rows.tolist() == [[0.5, 0, 0.5], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert dataset.labels.tolist() == [0, 1, 0, 1]
    assert [ids.numel() for ids in dataset.split_ids.values()] == [2, 1, 1]


@pytest.mark.parametrize("place", ["github/git_web_ml.zip", "git_web_ml.zip"])
def test_reads_the_archive(tmp_path: Path, place: str):
    (tmp_path / "github").mkdir()
    write_zip(tmp_path / place)
    dataset = musae("github", tmp_path, undirected=False, normalize_features=False, feature_dtype="float16")
    assert dataset.graph.to_edge_index().tolist() == [[1, 0, 2], [0, 1, 1]]
    assert dataset.features.rows.tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert dataset.features.dtype == torch.float16


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"edges": "id_1,id_2\n0,9\n"}, "holds node 9"),
        ({"edges": "id_1,id_2\n0,x\n"}, "not rows of two node numbers"),
        ({"edges": "id_1,id_2,id_3\n0,1,2\n"}, "got 3 columns"),
        ({"features": json.dumps(FEATURES)[:-5]}, "not lists of numbers"),
        ({"features": '{"4": [1]}'}, "node 4, which has no target"),
        ({"features": '{"1": [-1]}'}, "feature -1 is negative"),
        ({"target": TARGET.replace("3,5", "2,5")}, "each node from 0 to 3 once"),
        ({"target": TARGET.replace("3,5", "c,5")}, "does not begin with a node's number"),
    ],
)
def test_texts_that_do_not_fit_are_refused(tmp_path: Path, texts: dict[str, str], message: str):
    write(tmp_path, **texts)
    with pytest.raises(ValueError, match=message):
        musae("facebook_pages", tmp_path)


def test_a_missing_file_is_named(tmp_path: Path):
    write(tmp_path)
    (tmp_path / "facebook_pages/facebook_target.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"facebook_target\.csv was expected beside facebook_edges\.csv"):
        musae("facebook_pages", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"snap\.stanford\.edu/data/git_web_ml\.zip"):
        musae("github", tmp_path)
    with pytest.raises(ValueError, match="one of facebook_pages, github"):
        musae("facebook", tmp_path)


def test_a_broken_archive_is_named(tmp_path: Path):
    write_zip(tmp_path / "git_web_ml.zip")
    whole = (tmp_path / "git_web_ml.zip").read_bytes()
    (tmp_path / "git_web_ml.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"git_web_ml\.zip is not a whole \.zip file"):
        musae("github", tmp_path)
    with zipfile.ZipFile(tmp_path / "git_web_ml.zip", "w") as archive:
        archive.writestr("musae_git_edges.csv", EDGES)
    with pytest.raises(ValueError, match=r"one file \*features\.json, got 0"):
        musae("github", tmp_path)


def test_facebook_pages_has_its_published_counts(given_data: Path):
    dataset = musae("facebook_pages", feature_dtype="float16")
    assert (dataset.num_nodes, dataset.graph.num_edges) == (22470, 2 * 170823)
    assert (dataset.num_features, dataset.num_classes) == (4714, 4)
    rows = dataset.features.rows[:2000].float().sum(1)
    assert torch.allclose(rows, torch.ones(2000), atol=2e-3)


@pytest.mark.slow
def test_github_has_its_published_counts(given_data: Path):
    dataset = musae("github", feature_dtype="float16", normalize_features=False)
    assert (dataset.num_nodes, dataset.graph.num_edges) == (37700, 2 * 289003)
    assert (dataset.num_features, dataset.num_classes) == (4005, 2)
    assert torch.bincount(dataset.labels).tolist() == [27961, 9739]
