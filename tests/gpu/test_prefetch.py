import threading
import time

import numpy as np
import pytest
from reordering_card import Card, install

from miniclip.backend import worker_threads
from miniclip.gpu.prefetch import Prefetch

SHAPE, START, STOP = (7, 3, 2, 2), 5, 25


def batches(step, map=map):
    """Two shards of numbers that tell the step."""

    def shard(rows):
        rng = np.random.default_rng([step, rows[0]])
        return rng.standard_normal((len(rows), *SHAPE[1:])).astype(np.float32), rng.integers(0, 9, (len(rows), 4))

    return list(map(shard, (range(4), range(4, 7))))


@pytest.mark.parametrize("order", ["late", "copies", "main", "random"])
@pytest.mark.parametrize("seed", range(3))
def test_every_step_reads_its_own_batch(monkeypatch, order, seed):
    """In whichever order the card runs what no event forbids; and the main thread never waits for it."""
    card, seen = Card(order, seed), {}
    install(monkeypatch, card)
    with worker_threads(2) as pool, Prefetch(batches, SHAPE, START, STOP, pool.map) as prefetch:
        for step in range(START, STOP):
            shards = prefetch(step)
            for i, (images, tokens) in enumerate(shards):
                assert type(images).__module__ == "cupy" and type(tokens) is np.ndarray
                assert (tokens == batches(step)[i][1]).all()
                for way in ("forward", "backward"):  # read twice, as where activations are recomputed
                    card.main.launch(lambda images=images, key=(step, i, way): seen.update({key: np.array(images)}))
        assert threading.main_thread() not in [thread for thread, _ in card.waits] and card.reads == 0
    card.finish()
    assert len(seen) == (STOP - START) * 4
    for (step, i, _), images in seen.items():
        assert (images == batches(step)[i][0]).all(), (step, i)


def test_what_ran_before_may_still_use_the_memory(monkeypatch):
    """The first copy waits for the work that was launched before the slots were made."""
    card, order = Card("late"), []
    cupy = install(monkeypatch, card)
    array = cupy.ndarray
    monkeypatch.setattr(array, "set", lambda self, x, stream: stream.launch(lambda: order.append("copy")))
    card.main.launch(lambda: order.append("before"))
    with Prefetch(batches, SHAPE, START, STOP) as prefetch:
        prefetch(START)
        card.order = "copies"
    card.finish()
    assert order[0] == "before" and "copy" in order


def test_one_batch_is_drawn_ahead_and_no_more(monkeypatch):
    install(monkeypatch, Card())
    drawn, asked = [], threading.Event()

    def watched(step, map):
        drawn.append(step)
        if step == START + 1:
            asked.set()
        return batches(step)

    with Prefetch(watched, SHAPE, START, START + 3) as prefetch:
        prefetch(START)
        assert asked.wait(10)  # it is drawn while nobody asks for it
        time.sleep(0.05)
        assert drawn == [START, START + 1]
        prefetch(START + 1)
        prefetch(START + 2)
        assert drawn == [START, START + 1, START + 2]
        with pytest.raises(ValueError, match="step 8 was asked for; these batches come in order, up to step 7"):
            prefetch(START + 3)


def test_steps_come_in_order(monkeypatch):
    install(monkeypatch, Card())
    with Prefetch(batches, SHAPE, START, STOP) as prefetch:
        with pytest.raises(ValueError, match="step 9 was asked for.*the next is step 5"):
            prefetch(9)


class Broken(BaseException):
    pass


@pytest.mark.parametrize("kind", [ZeroDivisionError, ValueError, Broken])
def test_an_error_of_the_thread_comes_as_itself(monkeypatch, kind):
    install(monkeypatch, Card())
    error = kind("picture 3 is broken")

    def broken(step, map):
        if step == START + 2:
            raise error
        return batches(step)

    with pytest.raises(kind, match="picture 3 is broken") as raised, Prefetch(broken, SHAPE, START, STOP) as prefetch:
        for step in range(START, STOP):
            prefetch(step)
    assert raised.value is error and step == START + 2
    assert not any(thread.name.startswith("prefetch") for thread in threading.enumerate())


def test_an_interruption_ends_the_thread(monkeypatch):
    card = Card("late")
    install(monkeypatch, card)
    with pytest.raises(KeyboardInterrupt), Prefetch(batches, SHAPE, START, STOP) as prefetch:
        prefetch(START)
        raise KeyboardInterrupt
    assert not any(thread.name.startswith("prefetch") for thread in threading.enumerate())
    assert not card.streams[1].queue  # the copies are done: the slots may go


def test_the_thread_does_not_warn(monkeypatch):
    """Numbers that are not finite are reported once, by who looks at them; warnings are errors here."""
    install(monkeypatch, Card())

    def overflowing(step, map):
        np.float32(3e38) * np.float32(10)
        return batches(step)

    with Prefetch(overflowing, SHAPE, START, STOP) as prefetch:
        prefetch(START)
