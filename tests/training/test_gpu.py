import pytest
import torch

from gnnfast.loader import DataLoader
from gnnfast.nn import GNN
from gnnfast.sampler import NeighborSampler
from gnnfast.training import LayerwiseInference, TrainingSettings, train
from tests.training.graphs import easy_dataset

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

CONVS = ["gcn", "gat", "gatv2", "gin", "sage"]


@pytest.mark.parametrize("conv", CONVS)
def test_a_model_gives_the_same_output_on_both_devices(conv):
    dataset = easy_dataset()
    batch = NeighborSampler(dataset.graph, [5, 5]).sample(dataset.train_ids, 0)
    x = dataset.features.gather(batch.node_ids)
    model = GNN(8, 16, 2, 3, conv=conv).eval()
    on_cpu = model(x, batch.blocks)

    on_gpu = model.cuda()(x.cuda(), batch.to("cuda").blocks)

    torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("conv", CONVS)
def test_layer_wise_inference_on_a_gpu_is_the_full_forward(conv):
    dataset = easy_dataset()
    model = GNN(8, 16, 2, 3, conv=conv).double().eval()
    full = model(dataset.features.rows.double(), dataset.graph.to_block())
    nodes = dataset.test_ids

    outputs = LayerwiseInference(dataset.graph, dataset.features, nodes, 2, "cuda")(model.cuda())

    torch.testing.assert_close(outputs, full[nodes], rtol=0, atol=1e-10)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("conv", CONVS)
def test_every_precision_learns(conv, precision, tmp_path):
    dataset = easy_dataset()
    torch.manual_seed(0)
    model = GNN(8, 16, 2, 3, conv=conv)
    loader = DataLoader(dataset, NeighborSampler(dataset.graph, [5, 5]), batch_size=32)
    settings = TrainingSettings(epochs=15, precision=precision, accelerator="cuda", gradient_clip=1.0)

    result = train(model, loader, torch.optim.Adam(model.parameters(), lr=0.01), settings, run_folder=tmp_path)

    assert result.test["accuracy"] > 0.8
    assert loader.stage_seconds["transfer"] > 0


def test_batches_copied_ahead_are_those_of_the_host():
    dataset = easy_dataset()
    sampler = NeighborSampler(dataset.graph, [5, 5])
    host = list(DataLoader(dataset, sampler, batch_size=16))
    for expected, batch in zip(host, DataLoader(dataset, sampler, batch_size=16, device="cuda"), strict=True):
        torch.cuda._sleep(1_000_000)
        assert torch.equal(batch.x.cpu(), expected.x)
        assert torch.equal(batch.y.cpu(), expected.y)
        for ours, theirs in zip(batch.blocks, expected.blocks, strict=True):
            assert torch.equal(ours.indices.cpu(), theirs.indices)
            assert torch.equal(ours.indptr.cpu(), theirs.indptr)
