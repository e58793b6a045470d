import torch

from gnnfast.datasets import digits


def test_every_image_hears_its_nearest_ones_and_is_heard_by_them():
    graph = digits(num_neighbors=5).graph
    reverse = graph.to_edge_index().flip(0)
    pairs = graph.to_edge_index()
    keys = pairs[0] * graph.num_nodes + pairs[1]
    assert torch.equal(keys.sort().values, (reverse[0] * graph.num_nodes + reverse[1]).sort().values)
    assert keys.unique().numel() == keys.numel()
    assert bool((pairs[0] != pairs[1]).all())
    assert int(graph.in_degree.min()) >= 5


def test_a_directed_graph_has_exactly_the_nearest():
    dataset = digits(num_neighbors=3, undirected=False)
    assert dataset.graph.in_degree.eq(3).all()
    x = dataset.features.rows
    distances = (x - x[100]).square().sum(1)
    nearest = distances.topk(4, largest=False).indices[1:]
    first, last = dataset.graph.indptr[100:102].tolist()
    assert sorted(dataset.graph.indices[first:last].tolist()) == sorted(nearest.tolist())


def test_pixels_lie_between_0_and_1():
    dataset = digits()
    assert float(dataset.features.rows.min()) == 0
    assert float(dataset.features.rows.max()) == 1
    assert dataset.num_classes == 10
    assert [ids.numel() for ids in dataset.split_ids.values()] == [1078, 360, 359]


def test_normalized_rows_sum_to_1():
    torch.testing.assert_close(digits(normalize_features=True).features.rows.sum(1), torch.ones(1797))


def test_of_equally_near_images_the_first_are_heard_on_any_number_of_threads():
    before = torch.get_num_threads()
    try:
        graphs = []
        for num_threads in (1, 2):
            torch.set_num_threads(num_threads)
            graphs.append(digits(undirected=False).graph)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(graphs[0].indices, graphs[1].indices)
    images = (digits().features.rows * 16).long()
    for node in range(0, 1797, 100):
        distances = (images - images[node]).square().sum(1).tolist()
        nearest = sorted((u for u in range(1797) if u != node), key=lambda u: (distances[u], u))[:8]
        assert graphs[0].indices[8 * node : 8 * node + 8].tolist() == nearest
