from __future__ import annotations

from pathlib import Path

from tests.distributed.evaluations import MODELS
from tests.distributed.test_launch import results, start


def test_ranks_together_measure_what_one_does(tmp_path: Path):
    start(3, "evaluate", str(tmp_path))

    told = results(tmp_path, 3)
    assert told[0]["together"] == told[1]["together"] == told[2]["together"]
    together, alone = told[0]["together"], told[0]["alone"]
    assert len(alone) >= 2 * len(MODELS) + 8
    for name, values in alone.items():
        assert values, name
        assert together[name].keys() == values.keys()
        differences = {metric: abs(together[name][metric] - value) for metric, value in values.items()}
        assert max(differences.values()) <= 1e-12, (name, differences)
