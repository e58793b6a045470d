"""PyG's convolutions, on blocks as well as on `edge_index`."""
