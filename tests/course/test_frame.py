"""The frame of exercises, with the library's own layers as answers: what the ten other notebooks stand on."""

import inspect
import sys

import numpy as np
import pytest
from course.student_notebooks import SOLVED

from miniclip import attention, conv, layers, loss, transformer
from miniclip.course import Notebook, exercise, grade, load_answers
from miniclip.course.exercise import BY_NAME, load
from miniclip.course.grade_notebook import grade_code
from miniclip.course.written import is_unwritten
from miniclip.gradcheck import CASES

ANSWERS = (
    layers.linear, layers.embedding, layers.relu, layers.gelu, attention.attend, attention.self_attention,
    attention.attention_pool, conv.conv2d, conv.batch_norm, conv.average_pool, transformer.mlp,
    transformer.residual_block, loss.clip_loss, loss.siglip_loss,
)  # fmt: skip


def draw_from(case):
    """The arguments that a case of gradcheck draws, as an exercise draws them."""
    draw, _ = CASES[case]

    def arguments(r, *lengths):
        return draw(r, *lengths)[1:]

    arguments.__signature__ = inspect.signature(draw)
    return arguments


@pytest.fixture
def enter():
    """Enter an exercise while the test runs."""
    before = dict(load())
    yield lambda f, case, **fields: Notebook("98_frame").layer(
        f, draw=draw_from(case), name=f"my_{f.__name__}", **fields
    )
    for name in BY_NAME.keys() - before.keys():
        del BY_NAME[name]


def code_of(f):
    """The code of a function of the library, as a cell of a notebook."""
    text = inspect.getsource(f)
    text = text[text.index("def ") :]  # without its door
    module = vars(sys.modules[f.__module__])
    imports = [f"from {f.__module__} import {name}" for name in module if not name.startswith("__")]
    return "\n".join([*imports, text])


def case_of(f):
    return next(case for case in CASES if case.split(" (")[0] == f.__name__)


@pytest.mark.parametrize("f", ANSWERS, ids=lambda f: f.__name__)
def test_the_librarys_layers_are_right_answers(f, enter):
    one = enter(f, case_of(f))
    space = {}
    exec(compile(code_of(f), "a notebook", "exec"), space)
    verdict = grade(exercise(one.name)(space[f.__name__]))
    assert verdict, verdict


@pytest.mark.slow
@pytest.mark.parametrize("f", ANSWERS, ids=lambda f: f.__name__)
def test_so_they_are_in_a_process_of_their_own(f, enter):
    verdict = grade_code(enter(f, case_of(f)), f.__name__, code_of(f), 0)
    assert verdict, verdict


@pytest.mark.parametrize(
    "f, case",
    [(attention.self_attention, "self_attention (causal)"), (loss.clip_loss, "clip_loss"), (conv.conv2d, "conv2d")],
)
def test_a_wrong_gradient_is_found_beside_masks_and_settings(f, case, enter):
    def wrong(*args):
        y, right = f(*args)
        spoil = lambda found: (0.99 * found[0], *found[1:])
        return y, (lambda: spoil(right())) if f is loss.clip_loss else (lambda dy: spoil(right(dy)))

    wrong.__signature__ = inspect.signature(f)
    one = enter(f, case)
    verdict = grade(exercise(one.name)(wrong))
    assert verdict.stage == "written"  # it calls the library's, which is seen first
    BY_NAME[one.name] = enter_again(one)
    verdict = grade(exercise(one.name)(wrong))
    assert verdict.stage == "gradient" and verdict.kind, verdict


def enter_again(one):
    """The exercise with a reference of its own, so that the library's may be called."""

    def reference(*args):
        return one.reference(*args)

    reference.__signature__ = inspect.signature(one.reference)
    return type(one)(**{**vars(one), "reference": reference})


def test_an_argument_that_no_point_gives_may_be_left_out(enter):
    """As the positives of the loss. What a point gives may not."""
    one, space = enter(loss.clip_loss, "clip_loss"), {}
    exec(code_of(loss.clip_loss).replace(", positives=None", "").replace(", positives)", ")"), space)
    assert list(inspect.signature(space["clip_loss"]).parameters) == one.parameters[:3]
    assert grade(exercise(one.name)(space["clip_loss"]))
    verdict = grade(exercise(one.name)(lambda image_features, text_features: 3))
    assert "it takes (image_features, text_features), and should take" in verdict.sentence, verdict


REFUSED = {  # what is done wrong: the answer, and what is said
    "forward": (
        """def my_mlp(x, p, activation=quick_gelu):
            h, c_fc = linear(np.pad(x, [(0, 0), (0, 0), (0, 1)]), **p["c_fc"])
            return h, c_fc""",
        "runs",
        "it raised ValueError: linear: weight has shape (16, 4), but x is (4, 3, 5): it must be (M, 5), at x (4, 3, 4)",
    ),
    "backward": (
        """def my_mlp(x, p, activation=quick_gelu):
            h, c_fc = linear(x, **p["c_fc"])
            h, act = activation(h)
            y, c_proj = linear(h, **p["c_proj"])
            return y, lambda dy: c_fc(act(c_proj(dy)))""",
        "contract",
        "its backward raised ValueError: gelu: the gradient of the output is of type tuple; it must be",
    ),
    "behind the door": (
        """def my_mlp(x, p, activation=quick_gelu):
            return theirs.__wrapped__(x, p, activation)""",
        "written",
        "it calls the library's mlp",
    ),
    "the library's, behind its door": ("my_mlp = theirs.__wrapped__", "written", "the library's"),
}


@pytest.mark.parametrize("wrong", REFUSED)
@pytest.mark.parametrize("how", ["here", pytest.param("there", marks=pytest.mark.slow)])
def test_what_a_door_refuses_is_said_in_a_sentence(wrong, how, enter):
    """The doors are those of the library's functions that the student's calls."""
    one = enter(transformer.mlp, "mlp (gelu)")
    code, stage, words = REFUSED[wrong]
    code = f"import numpy as np\nfrom miniclip.transformer import linear, quick_gelu, mlp as theirs\n{code}"
    if how == "there":
        verdict = grade_code(one, one.name, code, 0)
    else:
        exec(code, space := {})
        verdict = grade(exercise(one.name)(space[one.name]))
    assert verdict.stage == stage and words in verdict.sentence and "\n" not in str(verdict.sentence), verdict


@pytest.mark.parametrize("raises", [False, True])
def test_what_does_not_fit_inside_is_told_from_what_is_raised(raises):
    right = load_answers(*SOLVED)["layer_norm"]

    @exercise("layer_norm")
    def layer_norm(x, weight, bias, eps=1e-5):
        y, backward = right(x, weight, bias, eps)
        if x.dtype == np.float32:
            if raises:
                raise ValueError("too few digits")
            y = y.astype(int)
        return y, backward

    verdict = grade(layer_norm)
    words = "it raised ValueError: too few" if raises else "what it returns does not fit: ValueError: transformer_at: x"
    assert verdict.stage == "inside" and f"inside whole model (ViT), {words}" in verdict.sentence, verdict


def test_stubs_are_known_for_stubs():
    def dots(x): ...

    def described(x):
        """What it does."""
        ...

    def passed(x):
        pass

    def not_implemented(x):
        raise NotImplementedError("your turn")

    def half(x):
        y = np.exp(x)

        def backward(dy):
            """The gradient."""
            ...

        return y, backward

    assert all(map(is_unwritten, (dots, described, passed, not_implemented, half)))
    written = (lambda x: 0, lambda x: None if x else x, lambda x: (x, lambda dy: None), np.exp, print, 3)
    assert not any(map(is_unwritten, written))
