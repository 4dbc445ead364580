"""What the tests of a training run share."""

import pytest
from runs import run_to_the_end


@pytest.fixture(scope="session")
def once(shapes, tmp_path_factory):
    """SMALL, run in one go on two threads: its folder and its log."""
    out = tmp_path_factory.mktemp("once")
    return out, run_to_the_end(shapes, out, threads=2)
