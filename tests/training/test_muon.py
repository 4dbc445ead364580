"""Muon: against its equations with a decomposition, against PyTorch's, and AdamW where it is not Muon."""

import math

import numpy as np
import pytest

from miniclip.backend import worker_threads
from miniclip.gradcheck.contract import same_bits
from miniclip.init import MODELS, initialize, model_config
from miniclip.optim import AdamW
from miniclip.training.muon import Muon, matrices, orthogonal
from miniclip.tree import Flat, flatten, tree_map

NUMBERS = {"weight_decay": 0.1, "max_grad_norm": 5.0, "ema_decay": 0.9}


@pytest.fixture
def config():
    return model_config("resnet-micro", vocab_size=40, context_length=8, layers=1)


@pytest.fixture
def tree(config):
    return initialize(config, 1, np.float64)


def gradients(tree, steps, dtype=np.float64):
    rng = np.random.default_rng(7)
    some = [tree_map(lambda leaf: rng.standard_normal(leaf.shape).astype(dtype), tree) for _ in range(steps)]
    return list(map(Flat, some))


def by_decomposition(u):
    """What `orthogonal` computes, from singular values that each go through the polynomial five times."""
    left, values, right = np.linalg.svd(u, full_matrices=False)
    values = values / (np.linalg.norm(u) + 1e-7)
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return left * values @ right


@pytest.mark.parametrize("shape", [(3, 5, 5), (2, 4, 9), (2, 9, 4), (1, 1, 6), (1, 7, 1)])
def test_singular_values_are_made_alike(shape):
    u = np.random.default_rng(sum(shape)).standard_normal(shape)
    found = orthogonal(u)
    for one, other in zip(u, found):
        np.testing.assert_allclose(other, by_decomposition(one), rtol=1e-10, atol=1e-12)
    for size in (1e-3, 1e4):  # how long the matrix is does not matter
        np.testing.assert_allclose(orthogonal(size * u), found, rtol=2e-3, atol=2e-4)
    assert not orthogonal(np.zeros(shape)).any()


def test_small_directions_are_gone_as_far_as_large_ones():
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.standard_normal((30, 30)))[0] for _ in range(2))
    u = left * np.geomspace(1, 0.02, 30) @ right
    values = np.linalg.svd(orthogonal(u[None])[0], compute_uv=False)
    assert 0.6 < values.min() and values.max() < 1.25


def test_some_steps_are_those_of_the_equations(config, tree):
    params, shapes = Flat(tree), matrices(tree, config)
    optimizer, adam = Muon(params, config, **NUMBERS), AdamW(Flat(tree), **NUMBERS)
    theta = {name: leaf.copy() for name, leaf in flatten(tree).items()}
    m, average = {name: 0 for name in shapes}, {name: theta[name].copy() for name in shapes}
    for t, gradient in enumerate(gradients(tree, 4), start=1):
        lr = 0.01 * t
        norm = optimizer.step(gradient, lr)
        assert adam.step(gradient, lr) == norm > 5  # so that it is clipped
        for name, (count, rows, columns) in shapes.items():
            g = flatten(gradient.tree)[name] * 5 / (norm + 1e-6)
            m[name] = 0.95 * m[name] + g
            u = (g + 0.95 * m[name]).reshape(count, rows, columns)
            step = np.stack([0.2 * math.sqrt(max(rows, columns)) * by_decomposition(one) for one in u])
            theta[name] = theta[name] - lr * (step.reshape(theta[name].shape) + 0.1 * theta[name])
            memory = min(0.9, t / (t + 9))
            average[name] = memory * average[name] + (1 - memory) * theta[name]
    for name, leaf in flatten(params.tree).items():
        wanted = theta[name] if name in shapes else flatten(adam.params.tree)[name]
        np.testing.assert_allclose(leaf, wanted, rtol=1e-8, atol=1e-10, err_msg=name)
        wanted = average[name] if name in shapes else flatten(adam.average.tree)[name]
        np.testing.assert_allclose(flatten(optimizer.average.tree)[name], wanted, rtol=1e-8, atol=1e-10, err_msg=name)
    assert optimizer.count == 4 and not flatten(params.like(optimizer.v).tree)["visual.conv1.weight"].any()


def test_the_step_is_pytorchs(config, tree):
    """PyTorch's, in 16 bits, knows no heads: it is given each head's matrix as a parameter of its own."""
    torch = pytest.importorskip("torch")
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this PyTorch has no Muon")
    params, shapes = Flat(tree), matrices(tree, config)
    optimizer = Muon(params, config, weight_decay=0.1, max_grad_norm=None)

    def parts(leaves):
        return {(name, i): part for name in shapes for i, part in enumerate(leaves[name].reshape(shapes[name]))}

    start = parts(flatten(params.like(params.vector.copy()).tree))
    theirs = {key: torch.tensor(part.copy(), requires_grad=True) for key, part in start.items()}
    torchs = torch.optim.Muon(theirs.values(), lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for gradient in gradients(tree, 3):
        optimizer.step(gradient, 0.01)
        for key, part in parts(flatten(gradient.tree)).items():
            theirs[key].grad = torch.tensor(part.copy())
        torchs.step()
    for key, part in parts(flatten(params.tree)).items():
        moved, wanted = part - start[key], theirs[key].detach().numpy() - start[key]
        assert np.linalg.norm(moved - wanted) < 0.05 * np.linalg.norm(wanted), key


@pytest.mark.parametrize("name", MODELS)
def test_which_leaves_are_hidden_matrices(name):
    """All matrices and kernels but embeddings; queries, keys and values by heads."""
    config = model_config(name, vocab_size=40)
    tree = initialize(config)
    found, leaves = matrices(tree, config), flatten(tree)
    assert set(found) == {key for key, leaf in leaves.items() if leaf.ndim > 1 and "embedding" not in key}
    for key, (count, rows, columns) in found.items():
        assert count * rows * columns == leaves[key].size
    heads = config["text_cfg"]["heads"]
    assert found["transformer.resblocks.0.attn.in_proj_weight"][0] == 3 * heads
    if name == "vit-tiny":
        assert found["visual.transformer.resblocks.0.attn.in_proj_weight"] == (12, 32, 128)
        assert found["visual.conv1.weight"] == (1, 128, 48)
    else:
        pool = leaves["visual.attnpool.q_proj.weight"].shape[0]
        assert found["visual.attnpool.v_proj.weight"] == (pool // 64, 64, pool)
        assert found["visual.attnpool.c_proj.weight"] == (1, 128 if pool == 512 else 256, pool)


def test_a_gradient_that_is_not_finite_changes_nothing_but_the_count(config, tree):
    optimizer = Muon(Flat(tree), config, **NUMBERS)
    first, second = gradients(tree, 2)
    optimizer.step(first, 0.01)
    before = {name: np.array(value) for name, value in optimizer.state().items()}
    flatten(second.tree)["visual.attnpool.q_proj.weight"][3, 3] = np.nan
    assert np.isnan(optimizer.step(second, 0.01))
    after = optimizer.state()
    assert all(same_bits(np.array(after[name]), before[name]) for name in before if name != "count")
    assert after["count"] == 2


def test_a_restored_one_goes_on_to_the_bit_and_threads_do_not_matter(config):
    tree = initialize(config, 1)
    grads, ends = gradients(tree, 4, np.float32), []
    for threads in (1, 3):
        with worker_threads(threads) as pool:
            optimizer = Muon(Flat(tree), config, **NUMBERS)
            for gradient in grads[:2]:
                optimizer.step(gradient, 0.01, pool.map)
            again = Muon(Flat(tree), config, **NUMBERS)
            again.restore({name: np.array(value) for name, value in optimizer.state().items()})
            for gradient in grads[2:]:
                optimizer.step(gradient, 0.01, pool.map)
                again.step(gradient, 0.01, pool.map)
        ends += [optimizer.state(), again.state()]
    for name, value in ends[0].items():
        assert all(same_bits(np.array(end[name]), np.array(value)) for end in ends), name
    assert ends[0]["params"].dtype == np.float32


def test_of_a_frozen_encoder_there_is_nothing_to_move(config, tree):
    trained = {branch: tree[branch] for branch in tree if branch != "visual"}
    assert not any(name.startswith("visual") for name in matrices(trained, config))
    gradient = Flat(tree_map(np.ones_like, trained))
    assert Muon(Flat(trained), config).step(gradient, 0.1) > 0
