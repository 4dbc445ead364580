import json
import math
import os
from dataclasses import replace

import numpy as np
import pytest

from miniclip.backend import worker_threads
from miniclip.checkpoints.checkpoint import load, read_arrays
from miniclip.data.dataset import Evaluation, PictureSet
from miniclip.data.shapes import shapes_data
from miniclip.gradcheck.contract import same_bits
from miniclip.init import model_config
from miniclip.tokenizer import Tokenizer
from miniclip.training.batches import Batches
from miniclip.training.config import TrainConfig
from miniclip.training.loop import Log, Run, TrainingDiverged, train
from miniclip.tree import flatten

SMALL = TrainConfig(
    model="resnet-tiny", steps=6, batch=8, shard=3, warmup=2, vocabulary=700, checkpoint_every=2, log_every=1, mix=0.3
)


@pytest.fixture(scope="module")
def shapes():
    return shapes_data(pictures=240)


@pytest.fixture(scope="module")
def once(shapes, tmp_path_factory):
    """SMALL, run in one go on two threads: folder and log."""
    out = tmp_path_factory.mktemp("once")
    return out, run_to_the_end(shapes, out, threads=2)


def run_to_the_end(shapes, out, recipe=SMALL, **options):
    return train(shapes[0], recipe, out=out, progress=False, **options)[1]


def some(data, count):
    """The first `count` things of a PictureSet, one picture each."""
    rows = [int(np.flatnonzero(data.concept == k)[0]) for k in range(count)]
    return PictureSet(data.name, data.pictures[rows], np.arange(count), data.captions[:count])


def without_timing(rows):
    return [{key: value for key, value in row.items() if key != "examples_per_second"} for row in rows]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ------------------------------------------------------------------------------------------ learning


@pytest.mark.parametrize("model, steps", [("resnet-tiny", 25), ("vit-tiny", 45)])
def test_eight_pairs_are_learned_by_heart(shapes, tmp_path, model, steps):
    recipe = TrainConfig(
        model=model,
        steps=steps,
        batch=8,
        shard=8,
        learning_rate=1e-3,
        warmup=10,
        strength=0.0,
        plain_names=1.0,
        vocabulary=700,
        average=0.0,
        log_every=1,
        checkpoint_every=1000,
    )
    eight = some(shapes[0], 8)
    exam = Evaluation("eight", eight.pictures, eight.concept, [texts[0] for texts in eight.captions])
    clip, rows = train(eight, recipe, [exam], tmp_path, threads=1, progress=False)
    assert rows[0]["loss"] > 0.5 * math.log(8)
    assert rows[-2]["loss"] < 1e-3
    if model == "vit-tiny":  # a ResNet's running statistics settle later
        assert rows[-1]["eval/eight/top1"] == 1.0


# ------------------------------------------------------------------------------------------ batches


@pytest.fixture
def coloured():
    """20 things of 1 to 3 pictures and 1 to 3 captions; a picture's red says which thing it shows."""
    concept = np.repeat(np.arange(20), np.arange(20) % 3 + 1)
    pictures = np.full((len(concept), 32, 32, 4), 255, np.uint8)
    pictures[..., 0] = 10 * concept[:, None, None]
    captions = [
        [f"{letter} thing", f"the {letter} that we like best", f"{letter}!"][: k % 3 + 1]
        for k, letter in enumerate("abcdefghijklmnopqrst")
    ]
    return PictureSet("coloured", pictures, concept, captions)


def batches_of(data, recipe):
    tokenizer = Tokenizer.train([text for texts in data.captions for text in texts], 600)
    config = model_config(recipe.model, vocab_size=tokenizer.vocab_size, context_length=recipe.context)
    return Batches(data, tokenizer, config, recipe), tokenizer, config


def concepts_of(batch, data, tokenizer, config):
    """Which things a batch's texts are about, and which its pictures (augmentation off) show."""
    owner = {
        bytes(tokenizer(text, config["text_cfg"]["context_length"])[0]): k
        for k, texts in enumerate(data.captions)
        for text in texts
    }
    mean, std = (config["preprocess"][key][0] for key in ("mean", "std"))
    told = [owner[bytes(row)] for _, tokens in batch for row in tokens]
    shown = [round(float(image[0].mean() * std + mean) * 255 / 10) for images, _ in batch for image in images]
    return told, shown


def same_batches(a, b):
    return len(a) == len(b) and all(same_bits(x, y) for one, other in zip(a, b) for x, y in zip(one, other))


def test_no_thing_comes_twice_and_each_text_is_its_pictures(coloured):
    recipe = TrainConfig(model="resnet-tiny", batch=13, shard=4, strength=0.0)
    batches, tokenizer, config = batches_of(coloured, recipe)
    seen, texts = set(), set()
    for step in range(60):
        batch = batches(step)
        assert [len(tokens) for _, tokens in batch] == [len(images) for images, _ in batch]
        assert sum(len(tokens) for _, tokens in batch) == 13
        assert all(images.dtype == np.float32 and images.shape[1:] == (3, 32, 32) for images, _ in batch)
        told, shown = concepts_of(batch, coloured, tokenizer, config)
        assert told == shown and len(set(told)) == 13
        seen |= set(told)
        texts |= {bytes(row) for _, tokens in batch for row in tokens}
    assert seen == set(range(20))
    assert len(texts) == sum(map(len, coloured.captions))  # every caption is drawn some time


def test_shards_are_of_nearly_one_size(coloured):
    """A last shard of one picture would have no statistics to normalise with."""
    for batch, shard, sizes in ((13, 4, [4, 3, 3, 3]), (17, 16, [9, 8]), (12, 4, [4, 4, 4]), (3, 8, [3])):
        batches, _, _ = batches_of(coloured, TrainConfig(model="resnet-tiny", batch=batch, shard=shard))
        assert [len(tokens) for _, tokens in batches(0)] == sizes


def test_plain_names_alone(coloured):
    batches, tokenizer, config = batches_of(coloured, TrainConfig(model="resnet-tiny", batch=20, plain_names=1.0))
    plain = {bytes(tokenizer(texts[0], 24)[0]) for texts in coloured.captions}
    assert {bytes(row) for step in range(5) for _, tokens in batches(step) for row in tokens} == plain


def test_a_batch_is_a_function_of_the_seed_and_the_step_alone(coloured):
    recipe = TrainConfig(model="resnet-tiny", batch=11, shard=3, mix=0.5, seed=4)
    first, again = batches_of(coloured, recipe)[0], batches_of(coloured, recipe)[0]
    forwards = [first(step) for step in range(6)]
    with worker_threads(4) as pool:
        backwards = [again(step, pool.map) for step in reversed(range(6))][::-1]
    assert all(map(same_batches, forwards, backwards))
    other = batches_of(coloured, replace(recipe, seed=5))[0]
    batches = [*forwards, *map(other, range(6))]
    assert not any(same_batches(a, b) for i, a in enumerate(batches) for b in batches[:i])


def test_every_shard_is_augmented_in_its_own_way(coloured):
    coloured.pictures[:] = np.random.default_rng(0).integers(0, 256, coloured.pictures[0].shape)  # all the same
    batch = batches_of(coloured, TrainConfig(model="resnet-tiny", batch=8, shard=2))[0](0)
    views = [image for images, _ in batch for image in images]
    assert not any(same_bits(a, b) for i, a in enumerate(views) for b in views[:i])


def test_every_picture_of_a_thing_is_drawn(coloured):
    coloured.pictures[..., 1] = 10 * np.arange(len(coloured))[:, None, None]  # green numbers the pictures
    recipe = TrainConfig(model="resnet-tiny", batch=20, strength=0.0)
    batches, _, config = batches_of(coloured, recipe)
    mean, std = (config["preprocess"][key][1] for key in ("mean", "std"))
    seen = {
        round(float(image[1].mean() * std + mean) * 255)
        for step in range(30)
        for images, _ in batches(step)
        for image in images
    }
    assert len(seen) == len(np.unique(coloured.pictures[..., 1]))


def test_the_pictures_drawn_are_those_of_one_choice_a_thing(coloured):
    """All at once, but the same numbers: what was trained before is trained again to the same bits."""
    coloured.pictures[..., 1] = 3 * np.arange(len(coloured))[:, None, None]  # green numbers the pictures
    recipe = TrainConfig(model="resnet-tiny", batch=20, shard=20, strength=0.0, seed=6)
    batches, _, config = batches_of(coloured, recipe)
    mean, std = (config["preprocess"][key][1] for key in ("mean", "std"))
    for step in range(20):
        rng = np.random.default_rng([6, step])
        things = rng.choice(20, 20, replace=False)
        expected = [rng.choice(np.flatnonzero(coloured.concept == k), 2)[0] for k in things]
        ((images, _),) = batches(step)
        assert sorted(round(float(image[1].mean() * std + mean) * 255 / 3) for image in images) == sorted(expected)


@pytest.mark.parametrize(
    "captions, batch, sentence",
    [
        (1, 8, "coloured has 1 caption to learn; a contrast needs at least two"),
        (5, 6, "a batch of 6 is larger than the 5 different captions of coloured; choose a batch of at most 5"),
    ],
)
def test_too_little_data_is_refused_and_leaves_no_trace(coloured, tmp_path, captions, batch, sentence):
    data, out = some(coloured, captions), tmp_path / "run"
    with pytest.raises(ValueError, match=sentence):
        train(data, replace(SMALL, batch=batch), out=out, progress=False)
    assert not out.exists()


def test_a_thing_without_a_picture_is_not_drawn(coloured):
    """Captions may outnumber the pictures, as where a style is held out."""
    rows = coloured.concept != 7
    data = PictureSet("coloured", coloured.pictures[rows], coloured.concept[rows], coloured.captions)
    recipe = TrainConfig(model="resnet-tiny", batch=19, strength=0.0)
    batches, tokenizer, config = batches_of(data, recipe)
    assert sorted(concepts_of(batches(0), data, tokenizer, config)[0]) == [k for k in range(20) if k != 7]
    with pytest.raises(ValueError, match="a batch of 20 is larger than the 19 "):
        batches_of(data, replace(recipe, batch=20))


# ------------------------------------------------------------------------------------------ breaking


@pytest.mark.parametrize(
    "parameter", ["visual.layer2.0.conv2.weight", "transformer.resblocks.1.mlp.c_fc.bias", "logit_scale"]
)
def test_a_broken_parameter_stops_the_run(shapes, tmp_path, parameter):
    run = Run(shapes[0], SMALL, tmp_path)
    for _ in range(3):
        run.advance()
        if run.step % 2 == 0:
            run.checkpoint()
    before = contents(tmp_path)
    flatten(run.params.tree)[parameter].flat[0] = np.nan
    with pytest.raises(
        TrainingDiverged,
        match=f"step 4: the loss is nan.* come from the parameter {parameter}. "
        "The last good checkpoint, of step 2, is kept in .*lower learning rate",
    ):
        run.advance()
    assert run.step == 3 and contents(tmp_path) == before
    state, _ = read_arrays(tmp_path / "last.safetensors")
    assert state["count"] == 2 and all(np.isfinite(state[name]).all() for name in state)


@pytest.mark.parametrize(
    "rate, sentence",
    [
        (1e25, "step 2: the loss is nan, .* come from visual.conv2 "),
        (1e39, "step 1: a learning rate of 1e[+]39 makes "),
    ],
)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_learning_rate_that_is_too_high_stops_the_run(shapes, tmp_path, rate, sentence, threads):
    """It stops with one sentence and no warnings, and what can be resumed from is finite."""
    recipe = replace(SMALL, learning_rate=rate, checkpoint_every=1, warmup=0)
    with pytest.raises(TrainingDiverged, match=f"^{sentence}.* is kept in .*; try a lower learning rate.$"):
        run_to_the_end(shapes, tmp_path, recipe, threads=threads)
    assert contents(tmp_path).keys() == {"last.safetensors", "log.jsonl"}
    state, _ = read_arrays(tmp_path / "last.safetensors")
    assert all(np.isfinite(state[name]).all() for name in state)
    Run(shapes[0], recipe, tmp_path, resume=True)
    for line in (tmp_path / "log.jsonl").read_text().splitlines():
        assert np.isfinite(json.loads(line)["loss"])


# ------------------------------------------------------------------------------------------ log and result


def test_the_log_says_how_it_went(once):
    rows = once[1]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    for row in rows:
        assert {"loss", "lr", "logit_scale", "tau", "d_logit_scale", "grad_norm", "examples_per_second"} <= row.keys()
        assert row["tau"] == pytest.approx(math.exp(-row["logit_scale"]))
        assert row["examples_per_second"] > 0
    assert rows[0]["lr"] == pytest.approx(1e-3) and rows[1]["lr"] == pytest.approx(2e-3)
    assert rows[0]["loss"] == pytest.approx(math.log(8), rel=0.5)


def test_evaluations_come_when_they_are_due(shapes, tmp_path, capsys):
    exam = shapes[1][0]
    exam = Evaluation("a few", exam.pictures[:5], exam.answer[:5], exam.names)
    recipe = replace(SMALL, steps=5, evaluate_every=2, log_every=3)
    rows = run_to_the_end(shapes, tmp_path, recipe, evaluations=[exam])
    assert [(row["step"], "loss" in row) for row in rows] == [(2, False), (3, True), (4, False), (5, True), (5, False)]
    assert rows[0].keys() == {"step"} | {
        f"eval/a few/{key}" for key in ("n", "choices", "chance", "top1", "top5", "ensemble_top1", "ensemble_top5")
    }
    assert "step 4: a few: top-1" in capsys.readouterr().out


def test_what_is_kept_is_the_average_and_can_be_loaded(shapes, once):
    clip = load(once[0])
    state, _ = read_arrays(once[0] / "last.safetensors")
    kept = np.concatenate([leaf.ravel() for leaf in flatten(clip.params).values()])
    assert same_bits(kept, state["average"]) and not same_bits(kept, state["params"])
    assert clip.about["step"] == SMALL.steps and TrainConfig.from_json(clip.about["recipe"]) == SMALL
    features = clip.encode_image(shapes[0].pictures[:4])
    assert features.shape == (4, 128) and np.allclose((features * features).sum(1), 1, atol=1e-5)
    assert clip.encode_text(["a small red circle"]).shape == (1, 128)


def test_a_torn_log_is_cut_to_whole_lines(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"step": 4, "lo')
    log = Log(path)
    log.cut(2)
    log.add({"step": 3, "loss": 0.5})
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n{"step": 3, "loss": 0.5}\n'
    assert log.rows == [{"step": 1}, {"step": 2}, {"step": 3, "loss": 0.5}]
    assert os.listdir(tmp_path) == ["log.jsonl"]
