"""Every case of the library is right at random points, and nothing with a backward has been left out."""

import importlib
import inspect
import pkgutil
import sys

import numpy as np
import pytest

import miniclip
from miniclip.gradcheck import CASES, check_layer, draw_case, find_cases
from miniclip.tree import flatten

LARGE = ("whole model (ResNet)", "micro-batched step (ResNet)", "modified_resnet (training)", "modified_resnet (eval)")
SEQUENCES = ("whole model (ViT)", "micro-batched step (ViT)", "vision_transformer", "encode_text")


def by(method, slow=(), **options):
    """All cases by a method, some only in the slow suite."""
    marks = {name: [pytest.mark.slow] for name in slow}
    return [pytest.param(name, method, options, id=f"{name}-{method}", marks=marks.get(name, [])) for name in CASES]


@pytest.mark.parametrize("name, method, options", [
    *by("complex", slow=[LARGE[0], LARGE[1], LARGE[3]]),
    *by("adjoint", slow=LARGE[:1] + LARGE[2:]),
    *by("central", slow=[*LARGE, *SEQUENCES]),
    *by("adjoint", slow=LARGE, dtype=np.float32),
])  # fmt: skip
def test_every_case_is_right(name, method, options):
    report = check_layer(name, seed=1, method=method, **options)
    assert report.ok, f"\n{report}"
    assert report.tolerance == (1e-3 if options else 1e-7 if method == "central" else 1e-12)
    assert report.function == name and report.rows


def test_nothing_with_a_backward_is_left_out():
    ran = set()
    for name in CASES:
        f, args, _ = draw_case(name)
        sys.setprofile(lambda frame, event, _: ran.add(frame.f_code))
        try:
            f(*args)
        finally:
            sys.setprofile(None)
    core = [module.name for module in pkgutil.iter_modules(miniclip.__path__) if module.name != "__main__"]
    for module in (importlib.import_module(f"miniclip.{name}") for name in (*core, "training.tiled_loss")):
        for name, f in inspect.getmembers(module, inspect.isfunction):
            if f.__module__ == module.__name__ and "def backward(" in inspect.getsource(f):
                assert inspect.unwrap(f).__code__ in ran, f"{module.__name__}.{name} is never checked"


def test_a_seed_decides_lengths_and_numbers():
    first, again, other = (flatten(draw_case("linear", seed)[1]) for seed in (0, 0, 5))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert any(first[name].shape != other[name].shape for name in first)


@pytest.mark.parametrize("name", CASES)
def test_no_parameter_stands_where_a_mistake_would_hide(name):
    _, args, _ = draw_case(name)
    for leaf in flatten(args).values():
        if getattr(leaf, "dtype", np.dtype(int)).kind == "f" and np.isfinite(leaf).all():
            assert not np.isin(leaf, (0.0, 1.0)).any()


def test_names_are_found_by_pattern():
    assert find_cases(["layer_norm"]) == ["layer_norm"] and find_cases(["conv2d (1 × 1)"]) == ["conv2d (1 × 1)"]
    both = ["modified_resnet (training)", "modified_resnet (eval)"]
    assert find_cases(["*_resnet*", "conv2d*"]) == ["conv2d", "conv2d (1 × 1)", *both]
    with pytest.raises(ValueError, match="there is no layer 'lstm'; choose one of: linear, embedding, "):
        find_cases(["linear", "lstm"])
