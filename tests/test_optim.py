"""AdamW and the schedule: against their equations, and one step after another."""

import math

import numpy as np
import pytest

from miniclip.backend import worker_threads
from miniclip.gradcheck.contract import same_bits
from miniclip.init import MODELS, initialize, model_config
from miniclip.optim import MAXIMUM_LOGIT_SCALE, AdamW, learning_rate, update
from miniclip.train_step import is_statistic
from miniclip.tree import Flat, flatten, tree_map

DECAYED = {"visual.conv1.weight", "token_embedding.weight", "visual.proj"}


@pytest.fixture
def tree(normal):
    """One leaf of each kind."""
    return {
        "logit_scale": np.array(2.0),
        "visual": {
            "conv1": {"weight": normal(4, 3, 2, 2)},
            "class_embedding": normal(6),
            "proj": normal(6, 5),
            "bn1": {"weight": normal(4), "bias": normal(4), "running_mean": normal(4), "running_var": normal(4) ** 2},
        },
        "token_embedding": {"weight": normal(15, 10)},
    }


def gradients(tree, steps, sizes=(1.0,)):
    """Random trees of gradients, of these sizes in turn."""
    rng = np.random.default_rng(11)
    return [
        tree_map(lambda leaf: np.asarray(rng.standard_normal(leaf.shape) * sizes[step % len(sizes)]), tree)
        for step in range(steps)
    ]


def flat(tree, dtype=np.float64):
    return Flat(tree_map(lambda leaf: np.asarray(leaf, dtype), tree))


def textbook(tree, grads, rates, beta1, beta2, eps, weight_decay, max_grad_norm, ema_decay):
    """AdamW as in its paper, a leaf at a time -> parameters, their average, norms before clipping."""
    theta = {name: np.array(leaf) for name, leaf in flatten(tree).items()}
    m, v = ({name: np.zeros_like(leaf) for name, leaf in theta.items()} for _ in range(2))
    average = {name: leaf.copy() for name, leaf in theta.items()}
    norms = []
    for t, (g, lr) in enumerate(zip(map(flatten, grads), rates), start=1):
        norms.append(math.sqrt(sum((g[name] ** 2).sum() for name in g if "running" not in name)))
        for name in theta:
            if "running" in name:
                theta[name] = theta[name] - 0.1 * g[name]
            else:
                clipped = g[name] * min(1, max_grad_norm / (norms[-1] + 1e-6))
                m[name] = beta1 * m[name] + (1 - beta1) * clipped
                v[name] = beta2 * v[name] + (1 - beta2) * clipped**2
                m_hat, v_hat = m[name] / (1 - beta1**t), v[name] / (1 - beta2**t)
                decay = weight_decay if name in DECAYED else 0
                theta[name] = theta[name] - lr * (m_hat / (np.sqrt(v_hat) + eps) + decay * theta[name])
        theta["logit_scale"] = np.minimum(theta["logit_scale"], math.log(100))
        memory = min(ema_decay, t / (t + 9))
        for name in theta:
            average[name] = memory * average[name] + (1 - memory) * theta[name]
    return theta, average, norms


SETTINGS = {"beta1": 0.9, "beta2": 0.98, "eps": 1e-6, "weight_decay": 0.2}


@pytest.mark.parametrize("max_grad_norm", [0.5, 100.0, 1e9])  # always, sometimes and never in force
@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_adamw_is_the_textbooks(tree, max_grad_norm, ema_decay):
    settings = SETTINGS | {"max_grad_norm": max_grad_norm, "ema_decay": ema_decay}
    grads, rates = gradients(tree, 12, (0.2, 1.0)), [learning_rate(t, 12, 0.05, 5) for t in range(12)]
    params = flat(tree)
    optimizer = AdamW(params, **settings)
    norms = [optimizer.step(flat(g), lr) for g, lr in zip(grads, rates)]
    theta, average, expected = textbook(tree, grads, rates, **settings)
    assert np.allclose(norms, expected, rtol=1e-12) and optimizer.gradient_norm(flat(grads[-1])) == norms[-1]
    for found, wanted in ((params.tree, theta), (optimizer.average.tree, average)):
        for name, leaf in flatten(found).items():
            assert np.allclose(leaf, wanted[name], rtol=1e-10, atol=1e-12), name
    assert optimizer.count == 12 and (optimizer.average is params) == (ema_decay == 0)


def test_adamw_is_pytorchs(tree):
    torch = pytest.importorskip("torch")
    tree["logit_scale"] = np.array(0.5)  # far from its bound, of which torch knows nothing
    theirs = {
        name: torch.tensor(leaf, requires_grad=True) for name, leaf in flatten(tree).items() if not is_statistic(name)
    }
    groups = [
        {"params": [p for name, p in theirs.items() if (name in DECAYED) == decayed], "weight_decay": 0.2 * decayed}
        for decayed in (True, False)
    ]
    torchs = torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.98), eps=1e-6)
    params = flat(tree)
    optimizer = AdamW(params, max_grad_norm=100.0)
    for t, g in enumerate(gradients(tree, 60, (0.2, 1.0))):
        rate = learning_rate(t, 60, 0.02, 10)
        norm = optimizer.step(flat(g), rate)
        for group in torchs.param_groups:
            group["lr"] = rate
        for name, leaf in flatten(g).items():
            if name in theirs:
                theirs[name].grad = torch.tensor(leaf)
        assert float(torch.nn.utils.clip_grad_norm_(theirs.values(), 100.0)) == pytest.approx(float(norm), rel=1e-12)
        torchs.step()
    for name, p in theirs.items():
        assert np.allclose(flatten(params.tree)[name], p.detach().numpy(), rtol=1e-10, atol=1e-12), name


def test_the_rates_of_an_update(tree):
    optimizer = AdamW(flat(tree), **SETTINGS, ema_decay=0.5)
    for optimizer.count, follow in ((1, 1 - 1 / 10), (2, 1 - 2 / 11), (9, 0.5), (99, 0.5)):  # a young average forgets
        t = optimizer.count
        expected = 0.3 / (1 - 0.9**t), 1 / math.sqrt(1 - 0.98**t), 1 - 0.3 * 0.2, follow
        assert optimizer.rates(0.3) == pytest.approx(expected)


def test_an_update_by_hand():
    """A weight, a number of a vector and a running average, each 1, at gradient 0.8 that clipping halves."""
    params = flat({"w": np.ones((1, 1)), "logit_scale": np.ones(()), "running_mean": np.ones(1)})
    optimizer = AdamW(params, beta1=0.5, beta2=0.75, eps=0.1, weight_decay=0.2, ema_decay=0.9)
    optimizer.count = 1
    for finite in (False, True):
        assert (params.vector == 1).all() and not optimizer.m.any()  # where it is not finite, nothing changes
        update(np.full(3, 0.8), optimizer, 0.5, np.array(0.5), np.array(finite))
    assert optimizer.m == pytest.approx([0.2, 0.2, 0]) and optimizer.v == pytest.approx([0.04, 0.04, 0])
    step = 0.5 * (0.2 / 0.5) / (0.2 / 0.5 + 0.1)
    assert params.vector == pytest.approx([1 - 0.5 * 0.2 - step, 1 - step, 1 - 0.1 * 0.8])
    assert optimizer.average.vector == pytest.approx(0.1 + 0.9 * params.vector)


@pytest.mark.parametrize("model", MODELS)
def test_what_decays(model):
    """With a gradient of zero only decay moves anything: matrices and kernels, and nothing else."""
    params = Flat(initialize(model_config(model, layers=1), 0))
    before = params.vector.copy()
    AdamW(params, weight_decay=0.5).step(params.like(np.zeros_like(before)), 0.1)
    start, moved = flatten(params.like(before).tree), set()
    for name, leaf in flatten(params.tree).items():
        if not same_bits(leaf, start[name]):
            moved.add(name)
            assert np.allclose(leaf, start[name] * (1 - 0.1 * 0.5), rtol=1e-6)
    assert moved == {name for name, leaf in start.items() if leaf.ndim > 1}
    assert not any(name.endswith("bias") or ".bn" in name or "ln_" in name for name in moved)
    assert "logit_scale" not in moved and "visual.class_embedding" not in moved


def test_the_temperature_is_bounded_after_the_update(tree):
    params, bound = flat(tree, np.float32), np.float32(MAXIMUM_LOGIT_SCALE)
    optimizer = AdamW(params, ema_decay=0.5)
    up = flat(gradients(tree, 1)[0] | {"logit_scale": np.array(-1.0)}, np.float32)
    for _ in range(20):
        optimizer.step(up, 0.2)
        assert params.tree["logit_scale"] <= bound and optimizer.average.tree["logit_scale"] <= bound
    assert params.tree["logit_scale"] == bound
    above = flat(tree | {"logit_scale": np.array(9.0)})  # one that starts above is brought down too
    optimizer = AdamW(above, ema_decay=0.99)
    optimizer.step(flat(gradients(tree, 1)[0]), 0.0)
    assert float(above.tree["logit_scale"]) == float(optimizer.average.tree["logit_scale"]) == math.log(100)
    down = flat(gradients(tree, 1)[0] | {"logit_scale": np.array(1.0)})
    optimizer.step(down, 0.01)
    optimizer.step(down, 0.01)
    assert float(above.tree["logit_scale"]) < math.log(100)  # and comes down again on its own


def test_the_learning_rate_warms_up_and_falls():
    rates = [learning_rate(step, 100, 2.0, 10) for step in range(101)]
    assert np.allclose(rates[:10], 2.0 * np.arange(1, 11) / 10)
    assert rates[10] == 2.0 == max(rates)
    assert rates[55] == pytest.approx(1.0)  # half of the peak, halfway
    assert rates[100] == 0 and 0 < rates[99] < 1e-3
    assert (np.diff(rates[:10]) > 0).all() and (np.diff(rates[10:]) < 0).all()
    assert learning_rate(0, 5, 2.0, 0) == 2.0  # no warm-up at all
    assert learning_rate(4, 5, 2.0, 50) == pytest.approx(0.2)  # a run shorter than its warm-up
    assert learning_rate(3, 3, 2.0, 3) == 2.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_restored_optimizer_goes_on_to_the_bit(tree, dtype):
    grads = [flat(g, dtype) for g in gradients(tree, 8)]
    first = AdamW(flat(tree, dtype), ema_decay=0.9)
    for g in grads[:5]:
        first.step(g, 0.01)
    saved = {name: np.array(value) for name, value in first.state().items()}
    assert saved.keys() == {"params", "m", "v", "average", "count"} and saved["count"] == 5
    second = AdamW(flat(tree_map(np.zeros_like, tree), dtype), ema_decay=0.9)
    second.restore(saved)
    for optimizer in (first, second):
        for g in grads[5:]:
            optimizer.step(g, 0.01)
    for name, value in first.state().items():
        assert same_bits(second.state()[name], value), name
        assert name == "count" or value.dtype == dtype
    assert second.count == 8
    assert saved["count"] == 5 and not same_bits(saved["params"], first.state()["params"])


def test_the_state_of_another_model_is_refused(tree):
    small = AdamW(flat({"logit_scale": np.array(0.0)}))
    before = small.params.vector.copy()
    with pytest.raises(ValueError, match="the saved params has .* numbers, this model .*another model or other data"):
        small.restore(AdamW(flat(tree)).state())
    assert same_bits(small.params.vector, before)


def test_a_gradient_in_another_order_is_refused(tree):
    params = Flat(tree)
    backwards = Flat(dict(reversed(tree.items())))
    with pytest.raises(ValueError, match="laid out otherwise than the parameters"):
        AdamW(params).step(backwards, 1e-3)
    assert (params.vector == Flat(tree).vector).all()


def test_the_gradient_is_not_written_to_and_threads_do_not_matter(tree):
    g = flat(gradients(tree, 1)[0], np.float32)
    g.vector.flags.writeable = False
    results = []
    for threads in (1, 2, 4):
        optimizer = AdamW(flat(tree, np.float32), ema_decay=0.9)
        with worker_threads(threads) as pool:
            norms = [optimizer.step(g, 0.01, pool.map) for _ in range(2)]
        results.append([*norms, *optimizer.state().values()])
    assert results[0][0].dtype == np.float32
    assert all(same_bits(a, b) for other in results[1:] for a, b in zip(results[0], other))


def test_without_clipping_the_norm_is_not_asked_for(tree):
    grads, rates = gradients(tree, 3, (10.0,)), [0.1, 0.01, 0.1]
    params = flat(tree)
    optimizer = AdamW(params, max_grad_norm=None, **SETTINGS)
    optimizer.gradient_norm = None
    assert [optimizer.step(flat(g), rate) for g, rate in zip(grads, rates)] == [None] * 3
    theta, _, _ = textbook(tree, grads, rates, max_grad_norm=math.inf, ema_decay=0, **SETTINGS)
    for name, leaf in flatten(params.tree).items():
        assert np.allclose(leaf, theta[name], rtol=1e-12, atol=1e-12), name


def test_numbers_with_which_no_step_can_be_taken(tree):
    params = flat(tree)
    for name, value in (("beta1", 1), ("beta2", -0.1), ("eps", np.inf), ("weight_decay", "1"), ("ema_decay", np.nan)):
        with pytest.raises(ValueError, match=f"{name} is {value!r}; it must be a number, at least 0 and"):
            AdamW(params, **{name: value})
    with pytest.raises(ValueError, match="params is a dict; it must be a Flat"):
        AdamW(tree)
    optimizer, before = AdamW(params), params.vector.copy()
    for rate in (np.nan, np.float32(np.inf)):
        with pytest.raises(ValueError, match="lr is .*; it must be( a)? finite"):
            optimizer.step(params.like(before.copy()), rate)
    with pytest.raises(ValueError, match="laid out otherwise"):
        optimizer.step(params.like(before.astype(np.float32)), 0.1)
    with pytest.raises(ValueError, match="the saved m has None numbers"):
        optimizer.restore({"params": before + 1})
    assert (params.vector == before).all() and optimizer.count == 0


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(tree, wrong):
    optimizer = AdamW(flat(tree), ema_decay=0.9)
    optimizer.step(flat(gradients(tree, 1)[0]), 0.1)
    before = {name: value.copy() for name, value in optimizer.state().items() if name != "count"}
    broken = flat(gradients(tree, 1)[0])
    broken.tree["visual"]["proj"][2, 3] = wrong
    assert not np.isfinite(optimizer.step(broken, 0.1)) and optimizer.count == 2
    assert all(same_bits(value, before[name]) for name, value in optimizer.state().items() if name != "count")
