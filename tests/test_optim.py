import math

import numpy as np
import pytest

from miniclip.backend import worker_threads
from miniclip.conv import batch_norm
from miniclip.gradcheck.contract import same_bits
from miniclip.model import MAXIMUM_LOGIT_SCALE, MODELS, initialize, model_config
from miniclip.optim import BLOCK, AdamW, learning_rate
from miniclip.train_step import is_statistic
from miniclip.tree import Flat, flatten, tree_map

DECAYED = {"visual.conv1.weight", "token_embedding.weight", "visual.proj"}


@pytest.fixture
def tree(normal):
    """One leaf of each kind; the largest spans several of the blocks in which an update is done."""
    return {
        "logit_scale": np.array(2.0),
        "visual": {
            "conv1": {"weight": normal(4, 3, 2, 2)},
            "class_embedding": normal(6),
            "proj": normal(6, 5),
            "bn1": {"weight": normal(4), "bias": normal(4), "running_mean": normal(4), "running_var": normal(4) ** 2},
        },
        "token_embedding": {"weight": normal(2 * BLOCK // 100 + 1, 100)},
    }


def gradients(tree, steps, size=1.0):
    rng = np.random.default_rng(11)
    return [tree_map(lambda leaf: np.asarray(rng.standard_normal(leaf.shape) * size), tree) for _ in range(steps)]


def flat(tree, dtype=np.float64):
    return Flat(tree_map(lambda leaf: np.asarray(leaf, dtype), tree))


def textbook(tree, grads, rates, beta1, beta2, eps, weight_decay, clip, average_decay):
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
                clipped = g[name] * min(1, clip / (norms[-1] + 1e-6))
                m[name] = beta1 * m[name] + (1 - beta1) * clipped
                v[name] = beta2 * v[name] + (1 - beta2) * clipped**2
                m_hat, v_hat = m[name] / (1 - beta1**t), v[name] / (1 - beta2**t)
                decay = weight_decay if name in DECAYED else 0
                theta[name] = theta[name] - lr * (m_hat / (np.sqrt(v_hat) + eps) + decay * theta[name])
        theta["logit_scale"] = np.minimum(theta["logit_scale"], math.log(100))
        memory = min(average_decay, t / (t + 9))
        for name in theta:
            average[name] = memory * average[name] + (1 - memory) * theta[name]
    return theta, average, norms


@pytest.mark.parametrize("clip", [0.5, 100.0, 1e9])  # always, sometimes and never in force
@pytest.mark.parametrize("average_decay", [0.0, 0.9])
def test_adamw_is_the_textbooks(tree, clip, average_decay):
    settings = dict(beta1=0.9, beta2=0.98, eps=1e-6, weight_decay=0.2, clip=clip, average_decay=average_decay)
    grads = [tree_map(lambda leaf: leaf * size, g) for g, size in zip(gradients(tree, 40), [0.2, 1.0] * 20)]
    rates = [learning_rate(t, 40, 0.05, 5) for t in range(40)]
    params, optimizer = flat(tree), None
    optimizer = AdamW(params, **settings)
    norms = [optimizer.step(flat(g), lr) for g, lr in zip(grads, rates)]
    theta, average, expected = textbook(tree, grads, rates, **settings)
    assert np.allclose(norms, expected, rtol=1e-12)
    for found, wanted in ((params.tree, theta), (optimizer.average.tree, average)):
        for name, leaf in flatten(found).items():
            assert np.allclose(leaf, wanted[name], rtol=1e-10, atol=1e-12), name
    assert optimizer.count == 40


def test_adamw_is_pytorchs(tree):
    torch = pytest.importorskip("torch")
    steps, clip = 60, 100.0
    grads = [tree_map(lambda leaf: leaf * size, g) for g, size in zip(gradients(tree, steps), [0.2, 1.0] * steps)]
    tree["logit_scale"] = np.array(0.5)  # far from its bound, of which torch knows nothing
    theirs = {
        name: torch.tensor(leaf, requires_grad=True) for name, leaf in flatten(tree).items() if not is_statistic(name)
    }
    torchs = torch.optim.AdamW(
        [
            {"params": [p for name, p in theirs.items() if name in DECAYED], "weight_decay": 0.2},
            {"params": [p for name, p in theirs.items() if name not in DECAYED], "weight_decay": 0.0},
        ],
        lr=1.0,
        betas=(0.9, 0.98),
        eps=1e-6,
    )
    params = flat(tree)
    optimizer = AdamW(params, clip=clip)
    for t, g in enumerate(grads):
        rate = learning_rate(t, steps, 0.02, 10)
        norm = optimizer.step(flat(g), rate)
        for group in torchs.param_groups:
            group["lr"] = rate
        for name, leaf in flatten(g).items():
            if name in theirs:
                theirs[name].grad = torch.tensor(leaf)
        assert float(torch.nn.utils.clip_grad_norm_(theirs.values(), clip)) == pytest.approx(float(norm), rel=1e-12)
        torchs.step()
    for name, p in theirs.items():
        assert np.allclose(flatten(params.tree)[name], p.detach().numpy(), rtol=1e-10, atol=1e-12), name


@pytest.mark.parametrize("model", MODELS)
def test_what_decays(model):
    """With a gradient of zero only decay moves anything: matrices and kernels, and nothing else."""
    params = Flat(initialize(model_config(model, layers=1), 0))
    before = params.vector.copy()
    AdamW(params, weight_decay=0.5).step(params.like(np.zeros_like(before)), 0.1)
    start, moved = flatten(params.like(before).tree), set()
    for name, leaf in flatten(params.tree).items():
        if same_bits(leaf, start[name]):
            continue
        moved.add(name)
        assert np.allclose(leaf, start[name] * (1 - 0.1 * 0.5), rtol=1e-6)
    assert moved == {name for name, leaf in start.items() if leaf.ndim > 1}
    assert not any(name.endswith("bias") or ".bn" in name or "ln_" in name for name in moved)
    assert "logit_scale" not in moved and "visual.class_embedding" not in moved


def test_the_temperature_is_bounded_after_the_update(tree):
    params = flat(tree, np.float32)
    optimizer = AdamW(params, average_decay=0.5)
    for g in gradients(tree, 60):
        g["logit_scale"] = np.array(-1.0)
        optimizer.step(flat(g, np.float32), 0.2)
        assert params.tree["logit_scale"] <= np.float32(MAXIMUM_LOGIT_SCALE)
        assert optimizer.average.tree["logit_scale"] <= np.float32(MAXIMUM_LOGIT_SCALE)
    assert (
        float(params.tree["logit_scale"])
        == float(optimizer.average.tree["logit_scale"])
        == pytest.approx(math.log(100), rel=1e-6)
    )
    below = flat(tree | {"logit_scale": np.array(9.0)})  # one that starts above is brought down too
    optimizer = AdamW(below, average_decay=0.99)
    optimizer.step(flat(gradients(tree, 1)[0]), 0.0)
    assert float(below.tree["logit_scale"]) == float(optimizer.average.tree["logit_scale"]) == math.log(100)
    other_way = gradients(tree, 1)[0] | {"logit_scale": np.array(1.0)}
    optimizer.step(flat(other_way), 0.01)
    optimizer.step(flat(other_way), 0.01)
    assert float(below.tree["logit_scale"]) < math.log(100)  # and comes down again on its own


def test_the_gradients_norm_is_clipped(tree):
    """The moments show what gradient arrived: m after the first step is (1 − β₁) g."""
    g = gradients(tree, 1)[0]
    g["visual"]["bn1"]["running_mean"][:] = 1e6  # no part of the norm
    for clip, arrives in ((3.0, 3.0), (1e6, None)):
        optimizer = AdamW(flat(tree), clip=clip)
        norm = float(optimizer.step(flat(g), 0.1))
        expected = math.sqrt(sum((leaf**2).sum() for name, leaf in flatten(g).items() if not is_statistic(name)))
        assert norm == pytest.approx(expected, rel=1e-12) == float(optimizer.gradient_norm(flat(g)))
        assert np.sqrt((optimizer.m**2).sum()) / 0.1 == pytest.approx(arrives or expected, rel=1e-6)
        for name, place in optimizer.params.slices.items():
            if is_statistic(name):
                assert not optimizer.m[place].any() and not optimizer.v[place].any()


def test_running_statistics_follow_pytorchs_momentum(normal):
    """running ← 0.9 running + 0.1 batch, whatever the learning rate, the clipping and the decay."""
    params = flat(
        {
            "logit_scale": np.array(1.0),
            "bn1": {"weight": normal(3), "bias": normal(3), "running_mean": normal(3), "running_var": normal(3) ** 2},
        }
    )
    optimizer = AdamW(params, clip=1e-3)
    mean, var = (params.tree["bn1"][name].copy() for name in ("running_mean", "running_var"))
    for _ in range(20):
        x = normal(4, 5, 5, 3) * 3 + 1
        _, backward = batch_norm(x, **params.tree["bn1"], training=True)
        optimizer.step(flat({"logit_scale": np.array(0.0), "bn1": backward(normal(4, 5, 5, 3))[1]}), 1e-7)
        mean = 0.9 * mean + 0.1 * x.mean((0, 1, 2))
        var = 0.9 * var + 0.1 * x.var((0, 1, 2), ddof=1)
    assert np.allclose(params.tree["bn1"]["running_mean"], mean, rtol=1e-12)
    assert np.allclose(params.tree["bn1"]["running_var"], var, rtol=1e-12)


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


def test_the_average_forgets_its_start(tree):
    """Constant parameters: the average has 0.9 of what it lacked after 1 step of 10, not 0.001."""
    params = flat(tree)
    optimizer = AdamW(params, average_decay=0.999)
    optimizer.average.vector[:] += 1.0
    missing = []
    for _ in range(3):
        optimizer.step(params.like(np.zeros_like(params.vector)), 0.0)
        missing.append(optimizer.average.tree["visual"]["class_embedding"] - params.tree["visual"]["class_embedding"])
    assert np.allclose(missing[0], 0.1) and np.allclose(missing[1], 0.1 * 2 / 11)
    assert np.allclose(missing[2], 0.1 * 2 / 11 * 3 / 12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_restored_optimizer_goes_on_to_the_bit(tree, dtype):
    grads = [flat(g, dtype) for g in gradients(tree, 8)]
    first = AdamW(flat(tree, dtype), average_decay=0.9)
    for g in grads[:5]:
        first.step(g, 0.01)
    saved = {name: np.array(value) for name, value in first.state().items()}
    assert saved.keys() == {"params", "m", "v", "average", "count"} and saved["count"] == 5
    second = AdamW(flat(tree_map(np.zeros_like, tree), dtype), average_decay=0.9)
    second.restore(saved)
    for optimizer in (first, second):
        for g in grads[5:]:
            optimizer.step(g, 0.01)
    for name, value in first.state().items():
        assert same_bits(np.asarray(second.state()[name]), np.asarray(value)), name
        assert name == "count" or value.dtype == dtype
    assert second.count == 8
    assert saved["count"] == 5 and not same_bits(saved["params"], first.state()["params"])


def test_the_state_of_another_model_is_refused(tree):
    small = AdamW(flat({"logit_scale": np.array(0.0)}))
    before = small.params.vector.copy()
    with pytest.raises(ValueError, match="the saved params has .* numbers, this model .*another model or other data"):
        small.restore(AdamW(flat(tree)).state())
    assert same_bits(small.params.vector, before)


def test_the_gradient_is_not_written_to_and_threads_do_not_matter(tree):
    g = flat(gradients(tree, 1)[0], np.float32)
    g.vector.flags.writeable = False
    results = []
    for threads in (1, 2, 4):
        optimizer = AdamW(flat(tree, np.float32), average_decay=0.9)
        with worker_threads(threads) as pool:
            results.append(
                [
                    optimizer.step(g, 0.01, pool.map),
                    optimizer.step(g, 0.01, pool.map),
                    *map(np.asarray, optimizer.state().values()),
                ]
            )
    assert results[0][0].dtype == np.float32
    for other in results[1:]:
        assert all(same_bits(np.asarray(a), np.asarray(b)) for a, b in zip(results[0], other))


def test_without_clipping_nor_average_the_norm_is_not_asked_for(tree):
    settings = dict(beta1=0.9, beta2=0.98, eps=1e-6, weight_decay=0.2)
    grads, rates = gradients(tree, 3, size=10.0), [0.1, 0.01, 0.1]
    params = flat(tree)
    optimizer = AdamW(params, clip=None, **settings)
    optimizer.gradient_norm = None
    for g, rate in zip(grads, rates):
        assert optimizer.step(flat(g), rate) is None
    theta, _, _ = textbook(tree, grads, rates, clip=math.inf, average_decay=0, **settings)
    for name, leaf in flatten(params.tree).items():
        assert np.allclose(leaf, theta[name], rtol=1e-12, atol=1e-12), name
    assert optimizer.average is params


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(tree, wrong):
    optimizer = AdamW(flat(tree), average_decay=0.9)
    optimizer.step(flat(gradients(tree, 1)[0]), 0.1)
    before = {name: value.copy() for name, value in optimizer.state().items() if name != "count"}
    broken = flat(gradients(tree, 1)[0])
    broken.tree["visual"]["proj"][2, 3] = wrong
    assert not np.isfinite(optimizer.step(broken, 0.1)) and optimizer.count == 2
    assert all(same_bits(value, before[name]) for name, value in optimizer.state().items() if name != "count")
