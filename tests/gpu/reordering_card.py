"""A card that runs queued work in any order that its events allow, to see what goes wrong: for test_prefetch.py.

The double (cupy_double) does work at once and proves from clocks that the order is told. This proves the same by doing
it: copies, events and what `Stream.launch` is given wait in the queues of their streams, and the card takes from them
as it likes, so that what no event orders goes wrong sooner or later. It has no more of CuPy than prefetch.py needs.
`install(monkeypatch, card)` puts modules `cupy` and `cupyx` in place; reads of an array are counted in `card.reads`.
"""

import sys
import threading
from types import ModuleType, SimpleNamespace

import numpy as np


class Card:
    """The queues; order: "late" (nothing runs before it must), "copies" first, "main" first, or "random"."""

    def __init__(self, order="random", seed=0):
        self.order, self.rng, self.lock = order, np.random.default_rng(seed), threading.RLock()
        self.main, self.streams = Stream(self), []
        self.streams.append(self.main)
        self.reads, self.waits = 0, []  # of arrays; (thread, what) for host waits

    def issue(self, stream, work):
        with self.lock:
            stream.queue.append(work)
            for _ in range(0 if self.order == "late" else self.rng.integers(3)):
                self.run_one()

    def run_one(self):
        """Run what stands first in one queue that can go on; whether there was any."""
        ready = [stream for stream in self.streams if stream.queue and stream.queue[0].ready()]
        if not ready:
            return False
        if self.order == "copies":
            ready = [stream for stream in ready if stream is not self.main] or ready
        if self.order == "main":
            ready = [stream for stream in ready if stream is self.main] or ready
        ready[self.rng.integers(len(ready))].queue.pop(0).run()
        return True

    def run_until(self, done, what):
        with self.lock:
            self.waits.append((threading.current_thread(), what))
            while not done():
                assert self.run_one(), f"the {what} waits for ever"

    def finish(self):
        self.run_until(lambda: not any(stream.queue for stream in self.streams), "end")


def work(run, ready=lambda: True):
    return SimpleNamespace(run=run, ready=ready)


class Stream:
    def __init__(self, card):
        self.card, self.queue = card, []

    def launch(self, f):
        self.card.issue(self, work(f))

    def record(self, event):
        event.issued += 1
        self.card.issue(self, work(lambda: setattr(event, "done", event.done + 1)))

    def wait_event(self, event):
        until = event.issued
        self.card.issue(self, work(lambda: None, lambda: event.done >= until))

    def synchronize(self):
        self.card.run_until(lambda: not self.queue, "stream")


class Event:
    def __init__(self, card):
        self.card, self.issued, self.done = card, 0, 0

    def synchronize(self):
        until = self.issued
        self.card.run_until(lambda: self.done >= until, "event")


def install(monkeypatch, card):
    """Put the modules in place for one test; returns `cupy`."""

    class Array(np.ndarray):
        __module__ = "cupy"

        def set(self, array, stream):
            stream.launch(lambda: np.copyto(self.view(np.ndarray), array))

        def get(self):
            card.reads += 1
            return self.view(np.ndarray)

        def __setitem__(self, key, value):
            if isinstance(value, np.ndarray) and not isinstance(value, Array):
                raise TypeError("Unsupported type <class 'numpy.ndarray'>")  # CuPy moves nothing by itself
            super().__setitem__(key, value)

    def counted(name):
        def read(self, *args):
            card.reads += 1
            return getattr(np.ndarray, name)(self.view(np.ndarray), *args)

        return read

    for name in ("__float__", "__int__", "__bool__", "__index__", "item", "tolist"):
        setattr(Array, name, counted(name))

    def on_card(x):
        if isinstance(x, np.ndarray | np.generic):
            return np.asarray(x).view(Array)
        return x

    def stream(non_blocking):
        assert non_blocking
        card.streams.append(Stream(card))
        return card.streams[-1]

    class CuPy(ModuleType):
        def __getattr__(self, name):
            known = getattr(np, name)
            if isinstance(known, type | np.ufunc) or not callable(known):
                return known
            return lambda *args, **options: on_card(known(*args, **options))

    class Device:
        __enter__ = __exit__ = lambda *_: None

    cupy, cupyx = CuPy("cupy"), ModuleType("cupyx")
    cupy.ndarray = Array
    cupy.cuda = SimpleNamespace(
        Device=Device, Stream=stream, Event=lambda disable_timing: Event(card), get_current_stream=lambda: card.main
    )
    cupyx.empty_pinned = np.empty
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "cupyx", cupyx)
    return cupy
