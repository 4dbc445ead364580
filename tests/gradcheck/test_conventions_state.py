"""What a call of anybody's code draws or keeps is seen by no other call: random states, objects, caches elsewhere."""

import random

import numpy as np
from peoples_classes import Dicts, Linear, OwnRate
from peoples_functions import GENERATOR, W, X, affine, affine_gradients, dropout, dropout_global

from miniclip.gradcheck.contract import same_bits
from miniclip.gradcheck.conventions import as_layer


def affine_pull(dout, x, w):
    return affine_gradients(dout, x, w)


# ------------------------------------------------------------------------------------------ what is random


def test_what_is_random_is_left_as_it_was():
    def f(x, generator):
        noise = generator.random() + GENERATOR.random() + np.random.rand() + random.random()
        return x * noise, lambda dy: dy * noise

    mine = np.random.default_rng(9)
    before = mine.bit_generator.state, GENERATOR.bit_generator.state, np.random.get_state()[1].sum(), random.getstate()
    layer = as_layer(f, (X, mine))
    assert same_bits(layer.run(layer.leaves).outputs[0], layer.run(layer.leaves).outputs[0])
    after = mine.bit_generator.state, GENERATOR.bit_generator.state, np.random.get_state()[1].sum(), random.getstate()
    assert before == after
    assert layer.notes == ["random numbers are drawn from the same state in every call."]


def test_a_mask_drawn_anew_in_backward_is_another_mask():
    def f(x):
        return x * (np.random.rand(*x.shape) < 0.5), lambda dy: dy * (np.random.rand(*x.shape) < 0.5)

    layer = as_layer(f, (X,))
    ones = np.ones_like(X)
    run = layer.run({"x": ones})
    assert not same_bits(run.outputs[0], run.pull([ones])["x"])


def test_random_numbers_are_only_noted_where_they_are_drawn():
    assert any("random" in note for note in as_layer(dropout, (X, 0.5, np.random.default_rng(1))).notes)
    assert as_layer(dropout_global, (X,), backward=lambda dout, mask: dout * mask).notes
    assert as_layer(affine, (X, W, W[0]), backward=affine_pull).notes == []


# ------------------------------------------------------------------------------------------ state


def test_backward_follows_its_own_forward():
    """Also where another call, with complex numbers, came between."""
    kept = {}

    def forward(x):
        kept["x"] = x
        return x * x

    objects, other, third = Linear(), Linear(), Linear()
    for layer in (
        as_layer(forward, (X,), backward=lambda dout: 2 * dout * kept["x"]),
        as_layer(objects, (X,)),
        as_layer(
            lambda x: (other.forward(x) ** 2, lambda dout: other.backward(2 * dout * other.forward(other.x))), (X,)
        ),
        as_layer(third.forward, (X,), backward=lambda dout: third.backward(dout)),
    ):
        run = layer.run(layer.leaves)
        c = [np.ones_like(y) for y in run.outputs]
        expected = run.pull(c)
        run = layer.run(layer.leaves)
        layer.run({name: leaf * 1j for name, leaf in layer.leaves.items()})
        assert all(same_bits(gradient, expected[name]) for name, gradient in run.pull(c).items())


def test_an_object_that_backward_reaches_by_itself_is_not_copied_and_that_is_said():
    objects = Linear()
    layer = as_layer(objects.forward, (X,), backward=lambda dout: objects.backward(dout))
    assert layer.names == ["x"] and "whose own arrays are not checked: hand over its method itself." in layer.notes[0]
    assert as_layer(objects.forward, (X,), backward=objects.backward).names == ["x", "W", "b"]


def test_gradients_that_are_added_up_count_from_nothing():
    layer = as_layer(Dicts(), (X,))
    run = layer.run(layer.leaves)
    c = [np.ones((4, 5))]
    first, second = run.pull(c), run.pull(c)
    assert np.allclose(first["b"], 4) and same_bits(first["b"], second["b"])


def test_an_object_is_left_as_it_was():
    objects = Linear()
    kept = objects.W.copy()
    layer = as_layer(objects, (X,))
    layer.run({"W": kept * 2}).pull([np.ones((4, 5))])
    assert vars(objects).keys() == {"W", "b"} and same_bits(objects.W, kept)


def test_a_backward_that_runs_only_once_is_run_after_a_new_forward():
    def f(x):
        cache = [x]
        return x * x, lambda dy: 2 * dy * cache.pop()

    layer = as_layer(f, (X,))
    run = layer.run(layer.leaves)
    assert same_bits(run.pull([X])["x"], run.pull([X])["x"])


def test_a_learning_rate_is_left_as_it_was():
    objects = OwnRate()
    layer = as_layer(objects, (X,))
    assert objects.learning_rate == 0.1
    assert layer.notes == ["backward changes the parameters; at a learning rate of 1, that is their gradient."]
