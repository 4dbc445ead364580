"""The whole house is right at random points, and nothing with a backward has been left out of it."""

import importlib
import inspect

import numpy as np
import pytest

from miniclip.gradcheck.cases import CASES, check_layer, draw_case, find_cases
from miniclip.tree import flatten

ROOMS = ["layers", "conv", "attention", "transformer", "vit", "resnet", "text", "loss", "tiles"]


@pytest.mark.parametrize("method", ["complex", "adjoint"])
@pytest.mark.parametrize("name", CASES)
def test_the_house_is_right(name, method):
    report = check_layer(name, seed=1, method=method)
    assert report.ok, f"\n{report}"
    assert report.tolerance == 1e-12 and report.function == name


@pytest.mark.parametrize("name", [name for name in CASES if "model" not in name and "step" not in name])
def test_the_house_is_right_by_differences(name):
    report = check_layer(name, seed=2, method="central")
    assert report.ok, f"\n{report}"
    assert report.tolerance == 1e-7


@pytest.mark.parametrize("name", CASES)
def test_the_house_is_right_in_single_precision(name):
    report = check_layer(name, seed=3, method="adjoint", dtype=np.float32)
    assert report.ok, f"\n{report}"


def test_nothing_with_a_backward_is_left_out():
    source = "".join(inspect.getsource(inspect.getmodule(check_layer)))
    for room in ROOMS:
        module = importlib.import_module(f"miniclip.{room}")
        for name, f in inspect.getmembers(module, inspect.isfunction):
            if f.__module__ == module.__name__ and not name.startswith("_") and "def backward(" in inspect.getsource(f):
                assert f"{name}" in source.split("CASES = {}")[1], f"{room}.{name} is never checked"


def test_a_seed_decides_sizes_and_numbers():
    def arrays(seed):
        return {name: leaf for name, leaf in flatten(draw_case("linear", seed).args).items()}

    first, again, other = arrays(0), arrays(0), arrays(5)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert any(first[name].shape != other[name].shape for name in first)


def test_no_parameter_stands_where_a_fault_would_hide():
    for name in CASES:
        f, args, options = draw_case(name)
        for leaf in flatten(args).values():
            if getattr(leaf, "dtype", np.dtype(int)).kind == "f" and np.isfinite(leaf).all():
                assert not np.isin(leaf, (0.0, 1.0)).any(), name


def test_names_are_found_by_pattern():
    assert find_cases(["layer_norm"]) == ["layer_norm"]
    assert find_cases(["*resnet*", "conv2d*"]) == [
        "conv2d",
        "conv2d (1 × 1)",
        "modified_resnet (training)",
        "modified_resnet (in use)",
    ]
    assert find_cases(["batch_norm (training)"]) == ["batch_norm (training)"]
    with pytest.raises(ValueError, match="there is no layer 'lstm'; choose one of: linear, embedding, "):
        find_cases(["linear", "lstm"])
