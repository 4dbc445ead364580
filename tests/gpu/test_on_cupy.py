"""What NumPy computes, computed again on CuPy's arrays, and the same.

Where there is no graphics card, CuPy is a strict double of it (cupy_double): "double, not a GPU" stands in the
name of each such test. On a machine with a card, the same tests run on CuPy itself.
"""

import numpy as np
import pytest
from on_card import assert_same, forward_and_backward, training

from miniclip.backend import OutOfMemory, out_of_memory
from miniclip.checkpoints import load, save
from miniclip.gpu import usable_cupy
from miniclip.gradcheck import CASES, draw_case
from miniclip.gradcheck.random_inputs import RESNET, VIT, RandomInputs
from miniclip.init import initialize, model_config
from miniclip.loss import clip_loss, siglip_loss
from miniclip.model import CLIP
from miniclip.text_encoder import encode_text
from miniclip.tokenizer import Tokenizer
from miniclip.tree import flatten, to_device

pytestmark = pytest.mark.double


def test_cupy_itself_is_there():
    """Skipped: all that runs on cards ran on the double alone."""
    try:
        usable_cupy()
    except ValueError as why:
        pytest.skip(f"these tests ran on a double, not a GPU: {why}")


# ------------------------------------------------------------------------------------------ every layer


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", CASES)
def test_forward_and_backward(xp, name, dtype):
    f, args, _ = draw_case(name, seed=1)

    def convert(x):
        return x.astype(dtype) if x.dtype.kind == "f" else x

    ours = forward_and_backward(f, args, convert)
    theirs = forward_and_backward(f, args, lambda x: xp.asarray(convert(x)))
    assert_same(theirs, ours, 1e-5 if dtype == "float32" else 1e-12)


def test_the_losses_of_a_real_batch(xp, normal):
    """Sizes that are no powers of two, and features that are not normalised."""
    arrays = normal(37, 24), 3 * normal(37, 24), np.array(2.5), np.array(-3.0)
    for f, args in (clip_loss, arrays[:3]), (siglip_loss, arrays):
        ours = forward_and_backward(f, args, lambda x: x)
        assert_same(forward_and_backward(f, args, xp.asarray), ours, 1e-12)


# ------------------------------------------------------------------------------------------ training


@pytest.mark.parametrize("recompute", [False, True], ids=["", "recomputed"])
@pytest.mark.parametrize("config", [VIT, RESNET], ids=["ViT", "ResNet"])
def test_steps_of_training(xp, config, recompute):
    (step, ours), (step_there, theirs) = (training(config, at, np.float64, recompute) for at in ("cpu", "gpu"))
    for _ in range(4):
        assert_same(step_there(), step(), 1e-9)
    state, state_there = ours.state(), theirs.state()
    assert state.pop("count") == state_there.pop("count") == 4
    assert_same(state_there, state, 1e-9)
    assert not np.array_equal(state["params"], state["average"])


def test_the_temperature_is_bounded(xp):
    step, optimizer = training(VIT, "gpu")
    optimizer.params.tree["logit_scale"][...] = 10.0
    step()
    assert float(optimizer.params.tree["logit_scale"]) == np.float32(np.log(100))


def test_the_step_leaves_nothing_behind(card):
    """Its memory is all given back, and each step needs as much as the one before."""
    step, used = training(VIT, "gpu")[0], []
    for _ in range(3):
        step()
        used.append(card.used)
    assert used[0] == used[1] == used[2]


def test_out_of_memory_in_a_step_is_said_in_a_sentence(card, cupy):
    step, pool = training(VIT, "gpu")[0], cupy.get_default_memory_pool()
    pool.set_limit(pool.used_bytes() + (1 << 15))
    with pytest.raises(MemoryError) as caught:
        step()
    said = out_of_memory(caught.value)
    assert isinstance(said, OutOfMemory) and str(said).startswith("the graphics card's memory ran out: it has 8.0 GiB")


# ------------------------------------------------------------------------------------------ the object that people hold


@pytest.fixture
def clip():
    tokenizer = Tokenizer.train(["a red square", "a blue circle", "a green star"], 600)
    config = model_config("resnet-micro", vocab_size=tokenizer.vocab_size)
    return CLIP(initialize(config, seed=4), config, tokenizer, {"data": "none"})


def test_clip_embeds_and_classifies_and_is_saved(xp, clip, tmp_path):
    gpu = CLIP(to_device(clip.params, "gpu"), clip.config, clip.tokenizer, clip.about)
    assert (clip.device, gpu.device) == ("cpu", "gpu")
    pictures = np.random.default_rng(0).integers(0, 256, (3, 40, 32, 3), np.uint8)
    for ask in (
        lambda c: c.encode_image(pictures),
        lambda c: c.encode_text(["a red square", "star"]),
        lambda c: c.classify(pictures, ["red square", "blue circle"], ["a {}", "one {}"]),
        lambda c: c.encode_text([]),
    ):
        assert_same({"answer": ask(gpu)}, {"answer": ask(clip)}, 1e-5)
    save(gpu, tmp_path / "model.safetensors")
    again = flatten(load(tmp_path / "model.safetensors").params)
    assert all(np.array_equal(again[name], leaf) for name, leaf in flatten(clip.params).items())


def test_texts_are_read_wherever_their_tokens_are(xp):
    draw = RandomInputs(5)
    params, tokens = draw.parameters(VIT), draw.tokens(4)
    there, (ours, _) = to_device(params, "gpu"), encode_text(params, tokens, VIT)
    for given in (tokens, xp.asarray(tokens)):
        assert_same({"features": encode_text(there, given, VIT)[0]}, {"features": ours}, 1e-12)
    with pytest.raises(ValueError, match="no end token"):  # before it is sent
        encode_text(there, np.zeros((2, 5), int), VIT)
