"""What PyG's layers take beside rows and graph, and blocks do not."""

from __future__ import annotations

from typing import Any


def refuse_on_block(conv: str, **arguments: Any) -> None:
    """Raises `ValueError` naming the arguments that are not None: a layer on a block would ignore them."""
    given = [name for name, value in arguments.items() if value is not None]
    if given:
        raise ValueError(
            f"on a block {conv} takes no {', '.join(given)}: blocks bring their own weights and sizes; "
            "for all that PyG takes, pass block.edge_index"
        )
