"""Trees of parameters, and one flat vector of them."""

import numpy as np
import pytest

from miniclip.tree import Flat, flatten, to_device, tree_map, unflatten


@pytest.fixture
def tree(normal):
    return {
        "visual": {"conv1": {"weight": normal(2, 3)}, "blocks": [{"bias": normal(4)}, {"bias": normal(5)}]},
        "logit_scale": np.array(2.5),
    }


NAMES = ["visual.conv1.weight", "visual.blocks.0.bias", "visual.blocks.1.bias", "logit_scale"]


def test_flatten_names_leaves_as_a_state_dict_does(tree):
    leaves = flatten(tree)
    assert list(leaves) == NAMES
    assert leaves["visual.blocks.1.bias"] is tree["visual"]["blocks"][1]["bias"]


def test_unflatten_undoes_flatten(tree):
    back = unflatten(flatten(tree))
    assert list(flatten(back)) == NAMES
    assert isinstance(back["visual"]["blocks"], list)
    assert back["visual"]["blocks"][0]["bias"] is tree["visual"]["blocks"][0]["bias"]


def test_unflatten_puts_twelve_blocks_in_the_order_of_their_numbers():
    names = {f"blocks.{i}.w": i for i in reversed(range(12))}
    assert [block["w"] for block in unflatten(names)["blocks"]] == list(range(12))


def test_numbers_with_a_gap_are_names():
    assert unflatten({"a.0": 1, "a.2": 2}) == {"a": {"0": 1, "2": 2}}


@pytest.mark.parametrize("names", [["a", "a.b"], ["a.b", "a"]])
def test_a_name_cannot_be_a_leaf_and_a_branch(names):
    with pytest.raises(ValueError, match="lies (below|above) another parameter"):
        unflatten(dict.fromkeys(names, 0))


def test_tree_map(tree):
    doubled = tree_map(lambda a: a * 2, tree)
    assert (doubled["visual"]["blocks"][1]["bias"] == 2 * tree["visual"]["blocks"][1]["bias"]).all()
    difference = tree_map(lambda a, b, c: a + b - c, tree, tree, doubled)
    assert all((leaf == 0).all() for leaf in flatten(difference).values())
    assert list(flatten(difference)) == NAMES


def test_tree_map_finds_what_belongs_together_by_name():
    assert tree_map(lambda a, b: a - b, {"x": 3, "y": 5}, {"y": 1, "x": 2}) == {"x": 1, "y": 4}


@pytest.mark.parametrize(
    "one, other",
    [
        ({"a": 1}, {"b": 1}),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": 1}, [1]),
        ([1, 2], [1]),
        ([1], {"0": 1}),
        ({"a": {"b": 1}}, {"a": {"c": 1}}),
        ([1], 3),
    ],
)
def test_trees_of_two_shapes_are_refused(one, other):
    with pytest.raises(ValueError, match="trees differ"):
        tree_map(lambda a, b: a, one, other)


def test_to_device_leaves_arrays_where_they_are(tree):
    assert flatten(to_device(tree, "cpu"))["visual.conv1.weight"] is tree["visual"]["conv1"]["weight"]


# ------------------------------------------------------------------------------------------ Flat


def test_flat_copies_the_tree_into_one_vector(tree):
    flat = Flat(tree)
    assert flat.vector.shape == (6 + 4 + 5 + 1,)
    assert list(flat.slices) == NAMES
    for name, leaf in flatten(tree).items():
        assert (flat.vector[flat.slices[name]] == leaf.ravel()).all()
        assert flatten(flat.tree)[name].shape == leaf.shape
    flat.vector[:] = 0
    assert (tree["visual"]["conv1"]["weight"] != 0).all()


def test_vector_and_tree_are_the_same_memory(tree):
    flat = Flat(tree)
    flat.tree["visual"]["conv1"]["weight"][1, 2] = 7
    flat.tree["logit_scale"][...] = 8
    assert flat.vector[flat.slices["visual.conv1.weight"]][-1] == 7 and flat.vector[-1] == 8
    flat.vector *= 2
    assert flat.tree["visual"]["conv1"]["weight"][1, 2] == 14 and flat.tree["logit_scale"] == 16
    assert all(leaf.base is not None for leaf in flatten(flat.tree).values())


def test_write_finds_leaves_by_name(tree):
    flat = Flat(tree)
    flat.vector[:] = 0
    flat.write({"logit_scale": tree["logit_scale"], "visual": tree["visual"]})
    assert (flat.vector == Flat(tree).vector).all()
    with pytest.raises(ValueError, match="trees differ in .*logit_scale"):
        flat.write({"visual": tree["visual"]})


def test_like_lays_the_same_tree_over_another_vector(tree):
    flat = Flat(tree)
    moments = flat.like(np.zeros_like(flat.vector))
    moments.tree["visual"]["blocks"][0]["bias"][:] = 1
    assert moments.vector.sum() == 4 and moments.slices == flat.slices
    assert (flat.vector == Flat(tree).vector).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.complex128])
def test_flat_keeps_the_dtype(dtype):
    assert Flat({"a": np.ones(3, dtype)}).vector.dtype == dtype
