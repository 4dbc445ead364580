"""One training step on the double of a graphics card, for the quick suite; all else on it runs with -m double."""

import numpy as np
import pytest
from on_card import assert_same, training

from miniclip.gradcheck.random_inputs import RESNET, VIT


@pytest.mark.parametrize("config", [VIT, RESNET], ids=["ViT", "ResNet"])
def test_a_step_is_that_of_numpy_and_waits_for_nothing(card, config):
    (step, optimizer), (step_there, optimizer_there) = (training(config, at, np.float64) for at in ("cpu", "gpu"))
    with card.counting() as counts:
        result = step_there()
    assert counts.syncs == [] and counts.launches > 500
    assert_same(result, step(), 1e-9)
    state, state_there = optimizer.state(), optimizer_there.state()
    assert state.pop("count") == state_there.pop("count") == 1
    assert_same(state_there, state, 1e-9)
