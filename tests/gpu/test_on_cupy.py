"""The suite on CuPy arrays: everything that NumPy computes, computed again, and the same.

Where there is no graphics card, CuPy is a strict double of it (cupy_double): "double, not a GPU" stands in the
name of each such test. On a machine with a card, the same tests run on CuPy itself.
"""

import inspect
from dataclasses import replace

import numpy as np
import pytest
from cupy_double import cupy_double
from test_loop import SMALL, run_to_the_end, shapes  # noqa: F401

from miniclip.backend import array_module
from miniclip.checkpoints.checkpoint import load, save
from miniclip.gradcheck.cases import CASES, draw_case
from miniclip.gradcheck.random_inputs import RESNET, VIT, RandomInputs
from miniclip.loss import clip_loss, siglip_loss
from miniclip.init import initialize, model_config
from miniclip.model import CLIP
from miniclip.optim import AdamW
from miniclip.text_encoder import encode_text
from miniclip.tokenizer import Tokenizer
from miniclip.train_step import loss_and_gradient
from miniclip.training.loop import Run
from miniclip.tree import Flat, flatten, to_device, tree_map

DOUBLE = "double, not a GPU"


def why_not_on_a_gpu():
    """Why these tests cannot run on CuPy itself here, or None where they can."""
    try:
        import cupy
    except ImportError as error:
        return f"CuPy cannot be imported: {error}"
    return None if cupy.cuda.is_available() else "CuPy finds no graphics card"


@pytest.fixture(params=[DOUBLE] if why_not_on_a_gpu() else [DOUBLE, "CuPy on a GPU"])
def cupy(request):
    """The double, and CuPy where there is a card for it."""
    if request.param == DOUBLE:
        with cupy_double():
            import cupy

            yield cupy
        return
    import cupy

    yield cupy


def test_cupy_itself_is_there():
    """Skipped: all of this file ran on the double alone."""
    if why_not_on_a_gpu():
        pytest.skip(f"{why_not_on_a_gpu()}; this file ran on a double, not a GPU")


def sent(value, send):
    """An argument of a layer with its arrays on the card."""
    if isinstance(value, dict):
        return {key: sent(part, send) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(sent(part, send) for part in value)
    return send(value) if isinstance(value, (np.ndarray, np.floating)) else value


def as_single(x):
    return x.astype(np.float32) if x.dtype.kind == "f" else x


def forward_and_backward(f, args, send):
    """y and all gradients of y, backward = f(*args), arrays sent first; {name: array}."""
    y, backward = f(*(sent(arg, send) for arg in args))
    dy = np.random.default_rng([3, 1]).standard_normal(y.shape)
    gradients = backward(send(dy)) if inspect.signature(backward).parameters else backward()
    return {"y": y, **flatten(gradients, "gradient.")}


def assert_same(theirs, ours, tolerance):
    """CuPy's arrays, all of them and of the same dtypes, hold NumPy's numbers, to a part of the largest of them all."""
    assert theirs.keys() == ours.keys()
    largest = max(np.abs(mine).max(initial=1) for mine in ours.values() if mine is not None)
    for name, mine in ours.items():
        if mine is None:
            assert theirs[name] is None
            continue
        assert array_module(theirs[name]).__name__ == "cupy", f"{name} is no CuPy array"
        assert (theirs[name].shape, theirs[name].dtype) == (mine.shape, mine.dtype), name
        np.testing.assert_allclose(theirs[name].get(), mine, rtol=0, atol=tolerance * largest, err_msg=name)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", CASES)
def test_forward_and_backward(cupy, name, dtype):
    f, args, _ = draw_case(name, seed=1)
    convert, tolerance = (as_single, 1e-5) if dtype == "float32" else (lambda x: x, 1e-12)
    ours = forward_and_backward(f, args, convert)
    theirs = forward_and_backward(f, args, lambda x: cupy.asarray(convert(x)))
    assert_same(theirs, ours, tolerance)


def test_the_losses_of_a_real_batch(cupy, normal):
    """Sizes that are no powers of two, and features that are not normalised."""
    arrays = [normal(37, 24), 3 * normal(37, 24), np.array(2.5), np.array(-3.0)]
    for f, count in (clip_loss, 3), (siglip_loss, 4):
        ours = forward_and_backward(f, arrays[:count], lambda x: x)
        assert_same(forward_and_backward(f, arrays[:count], cupy.asarray), ours, 1e-12)


# ------------------------------------------------------------------------------------------ training


def batch(config, seed, device):
    """Two shards, of 5 and 3 pairs: pictures on the device, tokens on the host."""
    d = RandomInputs(seed)
    return [(to_device(d.images(n, config).astype(np.float32), device), d.tokens(n)) for n in (5, 3)]


def training(config, device, dtype=np.float32, recompute=False):
    """A step as train.py takes it, and what it changes: step(i) -> result; the optimiser."""
    draw = tree_map(lambda leaf: np.asarray(leaf, dtype), RandomInputs(7).parameters(config))
    params = Flat(to_device(draw, device))
    gradient = params.like(params.vector.copy())
    optimizer = AdamW(params, average_decay=0.9)
    batches = [batch(config, seed, device) for seed in range(3)]

    def step(i):
        result = loss_and_gradient(params.tree, batches[i % 3], config, gradient, recompute=recompute)
        return result, optimizer.step(gradient, 1e-3)

    return step, optimizer


@pytest.mark.parametrize("recompute", [False, True], ids=["", "recomputed"])
@pytest.mark.parametrize("config", [VIT, RESNET], ids=["ViT", "ResNet"])
def test_steps_of_training(cupy, config, recompute):
    ours, theirs = (training(config, device, np.float64, recompute) for device in ("cpu", "gpu"))
    for i in range(4):
        (result, norm), (result_gpu, norm_gpu) = ours[0](i), theirs[0](i)
        assert_same(result_gpu | {"norm": norm_gpu}, result | {"norm": norm}, 1e-9)
    state, state_gpu = ours[1].state(), theirs[1].state()
    assert state.pop("count") == state_gpu.pop("count") == 4
    assert_same(state_gpu, state, 1e-9)
    assert not np.array_equal(state["params"], state["average"])


def test_the_temperature_is_bounded(cupy):
    step, optimizer = training(VIT, "gpu")
    optimizer.params.tree["logit_scale"][...] = 10.0
    step(0)
    assert float(optimizer.params.tree["logit_scale"]) == np.float32(np.log(100))


@pytest.mark.parametrize("config", [VIT, RESNET], ids=["ViT", "ResNet"])
def test_a_step_waits_for_nothing(card, config):
    """double, not a GPU: on a card, a wait in the step would leave it idle while Python launches the next layer."""
    step, _ = training(config, "gpu")
    step(0)
    with card.counting() as counts:
        step(1)
    assert counts.syncs == []


def test_a_run_waits_only_where_it_looks(shapes, tmp_path, card, monkeypatch):  # noqa: F811
    """double, not a GPU: with a thread that draws ahead, pinned memory and two streams, which are in order or Race."""
    recipe, seen = replace(SMALL, model="resnet-micro", steps=3, batch=4, shard=2, log_every=3, checkpoint_every=9), []
    advance = Run.advance

    def counted(run, *args):
        with card.counting() as counts:
            advance(run, *args)
        seen.append(counts)

    monkeypatch.setattr(Run, "advance", counted)
    log = run_to_the_end(shapes, tmp_path / "gpu", recipe, device="gpu")
    assert len(seen) == 3
    assert all("in the thread prefetch" in wait for counts in seen for wait in counts.syncs)
    assert sum("set" in copy for counts in seen for copy in counts.uploads) >= 2
    monkeypatch.undo()
    (there,), (here,) = log, run_to_the_end(shapes, tmp_path / "cpu", recipe)
    assert there["loss"] == pytest.approx(here["loss"], rel=1e-4)
    assert there["grad_norm"] == pytest.approx(here["grad_norm"], rel=1e-2)


def test_the_step_leaves_nothing_behind(card):
    """double, not a GPU: the memory of a step is all given back, and each step needs as much as the one before."""
    step, _ = training(VIT, "gpu")
    used = []
    for i in range(3):
        step(i)
        used.append(card.used)
    assert used[0] == used[1] == used[2]


def test_out_of_memory_in_a_step_is_said_in_a_sentence(cupy, request):
    if DOUBLE not in request.node.name:
        pytest.skip("a whole card would have to be filled")
    from miniclip.backend import OutOfMemory, out_of_memory

    step, _ = training(VIT, "gpu")
    pool = cupy.get_default_memory_pool()
    pool.set_limit(pool.used_bytes() + (1 << 15))
    with pytest.raises(MemoryError) as caught:
        step(0)
    assert isinstance(out_of_memory(caught.value), OutOfMemory)
    pool.set_limit(0)


# ------------------------------------------------------------------------------------------ the object that people hold


@pytest.fixture
def clip():
    tokenizer = Tokenizer.train(["a red square", "a blue circle", "a green star"], 600)
    config = model_config("resnet-micro", vocab_size=tokenizer.vocab_size)
    return CLIP(initialize(config, seed=4), config, tokenizer, {"data": "none"})


def on_gpu(clip):
    return CLIP(to_device(clip.params, "gpu"), clip.config, clip.tokenizer, clip.about)


def test_clip_embeds_and_classifies(cupy, clip):
    pictures = np.random.default_rng(0).integers(0, 256, (3, 40, 32, 3), np.uint8)
    names, templates = ["red square", "blue circle"], ["a {}", "one {}"]
    gpu = on_gpu(clip)
    assert (clip.device, gpu.device) == ("cpu", "gpu")
    for ask in (
        lambda c: c.encode_image(pictures),
        lambda c: c.encode_text(["a red square", "star"]),
        lambda c: c.classify(pictures, names, templates),
        lambda c: c.encode_text([]),
    ):
        assert_same({"answer": ask(gpu)}, {"answer": ask(clip)}, 1e-5)


def test_clip_goes_to_the_card_and_to_disk_and_back(cupy, clip, tmp_path):
    save(on_gpu(clip), tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    back = to_device(to_device(again.params, "gpu"), "cpu")
    for name, leaf in flatten(clip.params).items():
        assert np.array_equal(flatten(again.params)[name], leaf) and np.array_equal(flatten(back)[name], leaf)


def test_a_text_without_an_end_is_refused_before_it_is_sent(cupy, clip):
    params = to_device(clip.params, "gpu")
    with pytest.raises(ValueError, match="no end token"):
        encode_text(params, np.zeros((2, 5), int), clip.config)


@pytest.mark.parametrize("tokens_on", ["host", "card"])
def test_texts_are_read_wherever_their_tokens_are(cupy, tokens_on):
    d = RandomInputs(5)
    params, tokens = d.parameters(VIT), d.tokens(4)
    ours, _ = encode_text(params, tokens, VIT)
    theirs, _ = encode_text(to_device(params, "gpu"), tokens if tokens_on == "host" else cupy.asarray(tokens), VIT)
    assert_same({"features": theirs}, {"features": ours}, 1e-12)
