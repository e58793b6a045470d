import os
import urllib.error
from pathlib import Path

import pytest


@pytest.fixture
def given_data() -> Path:
    """The folder of raw files that tests on real graphs need."""
    if not os.environ.get("GNNFAST_DATA"):
        pytest.skip("GNNFAST_DATA is not set: no raw files of real graphs to read")
    return Path(os.environ["GNNFAST_DATA"])


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
