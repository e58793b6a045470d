import pytest
import torch
from sklearn import metrics as sklearn_metrics

from gnnfast.training import compute_metrics
from gnnfast.training.metrics import summed_loss


@pytest.mark.parametrize("num_classes", [2, 5])
def test_single_label_metrics_are_scikit_learns(num_classes):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, num_classes, generator=generator)
    labels = torch.randint(0, num_classes, (200,), generator=generator)
    predicted = logits.argmax(1)

    values = compute_metrics(logits, labels)

    assert values["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(labels, predicted))
    assert values["f1_macro"] == pytest.approx(sklearn_metrics.f1_score(labels, predicted, average="macro"))
    scores = logits.softmax(1)
    scores = scores[:, 1] if num_classes == 2 else scores
    assert values["roc_auc"] == pytest.approx(
        sklearn_metrics.roc_auc_score(labels, scores, multi_class="ovr"), abs=1e-6
    )


def test_multi_label_metrics_are_scikit_learns():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 4, generator=generator)
    labels = torch.randint(0, 2, (200, 4), generator=generator).float()
    predicted = (logits > 0).long()

    values = compute_metrics(logits, labels)

    assert values["f1_micro"] == pytest.approx(sklearn_metrics.f1_score(labels, predicted, average="micro"))
    assert values["f1_macro"] == pytest.approx(sklearn_metrics.f1_score(labels, predicted, average="macro"))
    assert values["roc_auc"] == pytest.approx(sklearn_metrics.roc_auc_score(labels, logits, average="macro"), abs=1e-6)
    assert values["accuracy"] == pytest.approx(float((predicted == labels).double().mean()))


def test_unknown_labels_count_nowhere():
    logits = torch.tensor([[2.0, -1.0], [-1.0, 3.0], [1.0, 1.0]])
    labels = torch.tensor([[1.0, 0.0], [0.0, float("nan")], [float("nan"), 1.0]])

    assert compute_metrics(logits, labels)["accuracy"] == 1.0
    known_only = torch.nn.functional.binary_cross_entropy_with_logits(logits[1, :1], labels[1, :1])
    torch.testing.assert_close(summed_loss(logits[1:2], labels[1:2]), known_only)


def test_roc_auc_is_left_out_where_a_class_is_missing():
    values = compute_metrics(torch.randn(5, 2), torch.ones(5, dtype=torch.int64))

    assert "roc_auc" not in values
    assert "accuracy" in values


def test_no_nodes_have_no_metrics():
    assert compute_metrics(torch.empty(0, 3), torch.empty(0, dtype=torch.int64)) == {}
