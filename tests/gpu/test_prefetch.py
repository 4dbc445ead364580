"""Batches drawn ahead: the same batches, in order, whatever goes wrong."""

import sys
import threading
import time

import numpy as np
import pytest
from reordering_card import Card, install

from miniclip.backend import worker_threads
from miniclip.gpu import Prefetch

pytestmark = pytest.mark.double
SHAPE, START, STOP = (7, 3, 2, 2), 5, 25


@pytest.fixture
def queues(monkeypatch):
    """queues("late"): a card that runs what is launched in this order."""

    def start(order="random", seed=0):
        card = Card(order, seed)
        install(monkeypatch, card)
        return card

    return start


def batches(step, map=map):
    """Two micro-batches of numbers that say which step they are of."""

    def micro_batch(rows):
        rng = np.random.default_rng([step, rows[0]])
        return rng.standard_normal((len(rows), *SHAPE[1:])).astype(np.float32), rng.integers(0, 9, (len(rows), 4))

    return list(map(micro_batch, (range(4), range(4, 7))))


def no_thread_is_left():
    return not any(thread.name.startswith("prefetch") for thread in threading.enumerate())


@pytest.mark.parametrize("order", ["late", "copies", "main", "random"])
@pytest.mark.parametrize("seed", range(3))
def test_every_step_reads_its_own_batch(queues, order, seed):
    """In whichever order the card runs what no event forbids; and the main thread never waits for it."""
    card, seen = queues(order, seed), {}
    with worker_threads(2) as pool, Prefetch(batches, SHAPE, START, STOP, pool.map) as prefetch:
        for step in range(START, STOP):
            for i, (images, tokens) in enumerate(prefetch(step)):
                assert type(images).__module__ == "cupy" and type(tokens) is np.ndarray
                assert (tokens == batches(step)[i][1]).all()
                for way in ("forward", "backward"):  # read twice, as where activations are recomputed
                    card.main.launch(lambda images=images, key=(step, i, way): seen.update({key: np.array(images)}))
        assert threading.main_thread() not in [thread for thread, _ in card.waits] and card.reads == 0
    card.finish()
    assert len(seen) == (STOP - START) * 4
    for (step, i, _), images in seen.items():
        assert (images == batches(step)[i][0]).all(), (step, i)


def test_what_ran_before_may_still_use_the_memory(queues, monkeypatch):
    """The first copy waits for the work that was launched before the slots were made."""
    card, order = queues("late"), []
    array = sys.modules["cupy"].ndarray
    monkeypatch.setattr(array, "set", lambda self, x, stream: stream.launch(lambda: order.append("copy")))
    card.main.launch(lambda: order.append("before"))
    with Prefetch(batches, SHAPE, START, STOP) as prefetch:
        prefetch(START)
        card.order = "copies"
    card.finish()
    assert order[0] == "before" and "copy" in order


def test_one_batch_is_drawn_ahead_and_no_more_and_steps_come_in_order(queues):
    queues()
    drawn, asked = [], threading.Event()

    def watched(step, map):
        drawn.append(step)
        if step == START + 1:
            asked.set()
        np.float32(3e38) * np.float32(10)  # the thread does not warn; warnings are errors here
        return batches(step)

    with Prefetch(watched, SHAPE, START, START + 3) as prefetch:
        prefetch(START)
        assert asked.wait(10)  # it is drawn while nobody asks for it
        time.sleep(0.05)
        assert drawn == [START, START + 1]
        with pytest.raises(ValueError, match="step 9 was asked for.*the next is step 6"):
            prefetch(9)
        prefetch(START + 1)
        prefetch(START + 2)
        assert drawn == [START, START + 1, START + 2]
        with pytest.raises(ValueError, match="step 8 was asked for; these batches come in order, up to step 7"):
            prefetch(START + 3)


class Broken(BaseException):
    pass


@pytest.mark.parametrize("kind", [ValueError, Broken])
def test_an_error_of_the_thread_comes_as_itself(queues, kind):
    queues()
    error = kind("picture 3 is broken")

    def broken(step, map):
        if step == START + 2:
            raise error
        return batches(step)

    with pytest.raises(kind, match="picture 3 is broken") as raised, Prefetch(broken, SHAPE, START, STOP) as prefetch:
        for step in range(START, STOP):
            prefetch(step)
    assert raised.value is error and step == START + 2 and no_thread_is_left()


def test_an_interruption_ends_the_thread(queues):
    card = queues("late")
    with pytest.raises(KeyboardInterrupt), Prefetch(batches, SHAPE, START, STOP) as prefetch:
        prefetch(START)
        raise KeyboardInterrupt
    assert no_thread_is_left()
    assert not card.streams[1].queue  # the copies are done: the slots may go
