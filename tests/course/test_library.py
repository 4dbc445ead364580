"""A student's function in the library's place, and out again; what crosses over to its process."""

import inspect
import re
import sys
from functools import wraps

import numpy as np
import pytest
from course.student_notebooks import SOLVED, write_notebook

import miniclip.attention
import miniclip.layers
import miniclip.loss
import miniclip.train_step
import miniclip.transformer
from miniclip.course import Notebook, exercise, load_answers, put_in, take_out
from miniclip.course.arrays import BadMessage, Odd, pack, unpack
from miniclip.course.child import parameters
from miniclip.course.exercise import BY_NAME
from miniclip.course.process import with_parameters
from miniclip.gradcheck import check_layer
from miniclip.gradcheck.conventions.conventions import count_parameters


@pytest.fixture
def counted():
    """A softmax that counts its calls, and the count."""
    right, calls = miniclip.layers.softmax, []

    @exercise("softmax")
    def softmax(x, axis=-1):
        calls.append(x.shape)
        return right(x, axis)

    yield softmax, calls
    take_out()


def bindings():
    """All that the library's modules know, and all defaults of its functions."""
    modules = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "miniclip"}
    functions = [inspect.unwrap(f) for module in modules.values() for f in vars(module).values() if callable(f)]
    defaults = {id(f): f.__defaults__ for f in functions if hasattr(f, "__defaults__")}
    return {name: dict(vars(module)) for name, module in modules.items() if "course" not in name}, defaults


def test_all_modules_use_it_until_it_is_taken_out(counted):
    softmax, calls = counted
    check_layer("whole model (ViT)", method="adjoint")
    before = bindings()
    with put_in(softmax):
        assert miniclip.attention.softmax is miniclip.layers.softmax
        assert miniclip.layers.softmax.__wrapped__ is softmax
        assert check_layer("whole model (ViT)", method="adjoint").ok
    assert {len(shape) for shape in calls} >= {2, 4}  # in the loss and in attention
    assert bindings() == before


@pytest.fixture
def put_in_counted():
    """put_in_counted(reference): a function that counts its calls, in place of the library's -> the calls."""

    def enter(reference):
        calls, name = [], f"my_{reference.__name__}"
        Notebook("98_library").layer(reference, name=name)

        @exercise(name)
        @wraps(reference)
        def mine(*args, **named):
            calls.append(args)
            return reference(*args, **named)

        put_in(mine)
        return calls

    before = bindings()
    yield enter
    take_out()
    for name in [name for name, one in BY_NAME.items() if one.notebook == "98_library"]:
        del BY_NAME[name]
    assert bindings() == before


def test_a_function_behind_a_door_is_one_of_the_places(put_in_counted):
    """Its default is; and what stands behind the door of a layer, which the library may use as well."""
    activations, products = map(put_in_counted, (miniclip.layers.quick_gelu, miniclip.layers.linear))
    assert check_layer("residual_block", method="adjoint").ok
    assert activations and products
    products.clear()
    assert check_layer("conv2d", method="adjoint").ok
    assert products


def test_an_argument_that_is_left_out_is_the_librarys(capsys):
    """Said once, and not where it has its default."""
    right = miniclip.loss.clip_loss
    one = Notebook("98_library").layer(right, name="my_clip_loss")
    rng = np.random.default_rng(0)
    features, positives = rng.normal(size=(2, 3, 4)), (np.array([0, 1, 2, 0]), np.array([0, 1, 2, 2]))
    try:
        with put_in(exercise(one.name)(lambda image_features, text_features, logit_scale: ("mine", None))):
            placed = miniclip.train_step.clip_loss
            assert placed is miniclip.loss.clip_loss and placed is not right
            assert placed(*features, logit_scale=1.0)[0] == placed(*features, 1.0, positives=None)[0] == "mine"
            assert capsys.readouterr().out == ""
            for _ in range(2):
                assert placed(*features, 1.0, positives=positives)[0] == right(*features, 1.0, positives)[0]
            assert capsys.readouterr().out.count("my_clip_loss is called with positives, which yours does not") == 1
    finally:
        del BY_NAME[one.name]


def test_a_default_of_a_function_is_one_of_the_places(monkeypatch):
    def quick_gelu(x):
        return x, lambda dy: dy

    def f(x, activation=miniclip.layers.softmax):
        return activation(x)

    f.__module__ = "miniclip.transformer"
    monkeypatch.setattr(miniclip.transformer, "f", f, raising=False)
    softmax = exercise("softmax")(lambda x, axis=-1: "mine")
    with put_in(softmax):
        assert f(3) == "mine"
    assert f.__defaults__ == (miniclip.layers.softmax,)


def test_it_stays_until_it_is_taken_out_by_hand(counted):
    softmax, _ = counted
    original = miniclip.layers.softmax
    assert str(put_in(softmax)) == "in the library now: softmax"
    put_in(softmax)  # twice is once
    assert miniclip.layers.softmax.__wrapped__ is softmax
    take_out("softmax")
    take_out(softmax)
    assert miniclip.layers.softmax is original


def test_kernels_of_other_arrays_can_be_registered_for_it():
    layer_norm = exercise("layer_norm")(lambda x, weight, bias, eps=1e-5: ("plain", None))
    with put_in(layer_norm):
        miniclip.layers.layer_norm.register(list, lambda *args: ("kernel", None))
        assert miniclip.layers.layer_norm(1, 2, 3)[0] == "plain"
        assert miniclip.layers.layer_norm([1], 2, 3)[0] == "kernel"
    assert miniclip.layers.layer_norm.plain is not layer_norm


def test_what_is_not_written_changes_nothing():
    def stub(): ...

    original = miniclip.layers.softmax
    with put_in(exercise("softmax")(stub)):
        assert miniclip.layers.softmax is original
    with pytest.raises(ValueError, match="is the answer to no exercise"):
        put_in(lambda x: x)


def test_answers_of_solved_notebooks_make_a_model():
    answers = load_answers(*SOLVED)
    with put_in(*answers.values()):
        assert check_layer("whole model (ViT)", method="adjoint").ok


def test_what_is_not_written_there_is_the_librarys(tmp_path, capsys):
    """Also where another answer calls it, and an answer that cannot be defined."""
    cells = (
        '@exercise("central")\ndef central(y, h): ...',
        '@exercise("richardson")\ndef richardson(y, h):\n    return central(y, h)',
        '@exercise("complex_step")\ndef complex_step(y, h=1 / 0):\n    return 3',
    )
    answers = load_answers(write_notebook(tmp_path / "mine.ipynb", *cells))
    said = capsys.readouterr().out
    assert "central is not written yet" in said and "complex_step cannot be defined (ZeroDivisionError" in said
    assert [answers[name](lambda t: 3 * t, 0.5) for name in ("central", "richardson")] == [3, 3]
    assert answers["complex_step"](lambda t: 3 * t, 0.5) == 3


# ------------------------------------------------------------------------------------------ messages


def test_a_tree_crosses_over_as_it_is():
    tree = {
        "a": [np.arange(6.0).reshape(2, 3), np.float32(2), 3, True, None, "text", 1.5, 2j, ()],
        "b": (np.array(1 + 2j), np.zeros((0, 3), np.float32), {"c": np.array([True])}, np.asfortranarray(np.eye(3))),
    }
    found = unpack(pack(tree))
    assert repr(found) == repr(tree)
    assert found["b"][1].dtype == np.float32 and type(found["a"][1]) is np.float32


def test_functions_cross_over_by_their_names_or_by_a_number():
    assert unpack(pack(miniclip.layers.softmax)) is miniclip.layers.softmax
    assert unpack(pack(print, lambda f: {"handle": 7}), lambda node: node["handle"]) == 7
    with pytest.raises(BadMessage):
        unpack(pack(print))  # not of the library


@pytest.mark.parametrize("value", [object(), {1, 2}, np.array([None]), np.array(["text"]), b"bytes"])
def test_of_what_is_no_array_only_the_name_crosses_over(value):
    assert isinstance(unpack(pack(value)), Odd)


@pytest.mark.parametrize(
    "function",
    [
        lambda: 1,
        lambda dy: (dy,),
        lambda x, axis=-1, *more, keep, scale=2.0, **named: (x, axis, more, keep, scale, named),
        lambda x, /, y=3, *, z=4: (x, y, z),
    ],
)
def test_a_function_of_another_process_takes_what_the_original_takes(function):
    remote = with_parameters(function, parameters(function))
    assert str(inspect.signature(remote)).replace("LEFT_OUT", "…") == re.sub(
        r"=-?[\d.]+", "=…", str(inspect.signature(function))
    )
    assert count_parameters(remote) == count_parameters(function)
    calls = [
        ((), {}),
        ((5,), {}),
        ((5, 6, 7), {"keep": 1, "other": 2}),
        ((5,), {"keep": 0, "scale": 1}),
        ((5,), {"z": 1}),
    ]
    for args, named in calls:
        try:
            wanted = function(*args, **named)
        except TypeError:
            continue
        assert remote(*args, **named) == wanted


def test_what_is_no_message_is_refused():
    """Among others an array that is said to be larger than it is, or of objects."""
    right = pack({"a": np.ones(3)})
    wrong = [right.replace(b"[3]", shape) for shape in (b"[4]", b"[-1]", b"[9]")] + [right.replace(b"<f8", b"|O8")]
    assert len(set(wrong)) == 4 and unpack(right)["a"].sum() == 3
    for data in (b"", b"PK", b"\xff" * 40, right[:-1], right[:30], *wrong):
        with pytest.raises(BadMessage):
            unpack(data)
