"""Fine-tuning: what a run starts from, and what does not move while an encoder is frozen."""

import weakref
from dataclasses import replace

import numpy as np
import pytest
from runs import SMALL, contents, run_to_the_end, some, take_step, without_timing

from miniclip import load, save
from miniclip.checkpoints import read_arrays
from miniclip.data import PictureSet
from miniclip.gradcheck.contract import same_bits
from miniclip.gradcheck.random_inputs import RESNET, VIT, RandomInputs
from miniclip.init import MODELS, initialize, model_config
from miniclip.loss import clip_loss
from miniclip.model import CLIP, encode_image
from miniclip.tokenizer import Tokenizer
from miniclip.train_step import encoders_of, loss_and_gradient, trained_branches
from miniclip.training import Run, TrainConfig, TrainingDiverged, train
from miniclip.tree import Flat, flatten, tree_map

RESNET = RESNET | {"vision_cfg": RESNET["vision_cfg"] | {"image_size": 32}}
TUNED = replace(SMALL, steps=4, learning_rate=5e-4)


@pytest.fixture
def start(once):
    """A trained model, whose tokenizer and context length no configuration here would make."""
    return load(once[0])


def branches(clip, encoder):
    """{name: array} of one encoder's parameters, and of running averages."""
    rest = trained_branches(clip.params, encoder)
    return flatten({branch: leaf for branch, leaf in clip.params.items() if branch not in rest})


# ------------------------------------------------------------------------------------------ one step


def problem(config, sizes=(3, 4)):
    """Parameters and micro-batches in float64."""
    inputs = RandomInputs(5)
    return inputs.parameters(config), [(inputs.images(n, config), inputs.tokens(n)) for n in sizes]


@pytest.mark.parametrize("config", [VIT, RESNET], ids=["vit", "resnet"])
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("frozen, trained", [("image", ["text"]), ("text", ["image"])])
def test_the_gradient_of_the_rest_is_that_of_a_whole_step(config, recompute, frozen, trained):
    """To the bit, where in the whole step, too, the norms of a frozen image encoder have their running averages."""
    params, micro_batches = problem(config)
    whole, part = Flat(tree_map(np.copy, params)), Flat(trained_branches(params, frozen))
    part.vector[:] = np.nan  # which must not be seen
    expected = loss_and_gradient(
        params, micro_batches, config, whole, encoders_of=lambda params, config, _: encoders_of(params, config, trained)
    )
    result = loss_and_gradient(params, micro_batches, config, part, recompute=recompute)
    assert all(same_bits(result[name], expected[name]) for name in expected)
    expected, found = flatten(whole.tree), flatten(part.tree)
    assert all(same_bits(found[name], expected[name]) for name in found)
    missing = {name for name in expected if name.startswith("visual.")}
    missing = missing if frozen == "image" else expected.keys() - missing - {"logit_scale"}
    assert expected.keys() - found.keys() == missing
    if frozen == "image":
        features = np.concatenate([encode_image(params, images, config)[0] for images, _ in micro_batches])
        assert same_bits(result["image_features"], features)


@pytest.mark.parametrize("frozen", ["image", "text"])
def test_nothing_of_a_frozen_encoder_is_kept_or_run_back(frozen):
    params, micro_batches = problem(VIT)
    kept = {"image": [], "text": []}

    def watched(params, config, trained):
        embed = encoders_of(params, config, trained)

        def watch(encoder, images, tokens):
            features, run_back = embed(encoder, images, tokens)

            def backward(dfeatures):
                assert encoder != frozen
                return run_back(dfeatures)

            kept[encoder].append(weakref.ref(backward))
            return features, backward

        return watch

    def loss(*arguments):
        lives = {encoder: [ref() is not None for ref in refs] for encoder, refs in kept.items()}
        assert lives.pop(frozen) == [False, False] and list(lives.values()) == [[True, True]]
        return clip_loss(*arguments)

    gradient = Flat(trained_branches(params, frozen))
    loss_and_gradient(params, micro_batches, VIT, gradient, loss=loss, encoders_of=watched)


# ------------------------------------------------------------------------------------------ a run


def test_a_run_starts_with_the_model_that_it_was_given(shapes, start, tmp_path):
    """Parameters and their average, tokenizer, context length; with an optimiser that knows nothing."""
    config = replace(TUNED, vocab_size=514, context_length=5, model="vit-tiny")  # of a new model
    run = Run(shapes[0], config, tmp_path, start=start)
    for averaged in (True, False):
        clip = run.model(averaged)
        assert clip.config == start.config and clip.tokenizer.merges == start.tokenizer.merges
        given = flatten(start.params)
        assert all(same_bits(leaf, given[name]) for name, leaf in flatten(clip.params).items())
    assert run.step == 0 and not run.optimizer.m.any() and not run.optimizer.v.any()
    assert [tokens.shape[1] for _, tokens in run.draw()] == [SMALL.context_length] * 3
    before = tree_map(np.copy, start.params)
    take_step(run)
    run.folder.close()
    assert all(
        same_bits(leaf, flatten(before)[name]) for name, leaf in flatten(start.params).items()
    )  # and not its own
    assert not {"model", "vocab_size", "context_length"} & run.about["config"].keys()
    assert len(run.about["from"]["sha256"]) == 64 and start.about["step"] == SMALL.steps


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("encoder, other", [("image", "text"), ("text", "image")])
def test_a_frozen_encoder_does_not_move_by_a_bit(shapes, start, tmp_path, encoder, other, recompute):
    config = replace(TUNED, freeze=encoder, recompute=recompute, weight_decay=1.0)
    run = Run(shapes[0], config, tmp_path, start=start)
    for _ in range(3):
        take_step(run)
    run.folder.close()
    for clip in (run.model(), run.model(averaged=False)):
        assert flatten(clip.params).keys() == flatten(start.params).keys()
        frozen, moved = branches(start, encoder), branches(start, other)
        assert len(frozen) > 10 and all(same_bits(leaf, frozen[name]) for name, leaf in branches(clip, encoder).items())
        same = [same_bits(leaf, moved[name]) for name, leaf in branches(clip, other).items()]
        assert sum(same) < len(same) / 5  # a few biases have no gradient
        assert clip.params["logit_scale"] != start.params["logit_scale"]
    save(clip, tmp_path / "other.safetensors")  # it is whole
    learned = sum(leaf.size for leaf in flatten(trained_branches(start.params, encoder)).values())
    assert run.optimizer.m.shape == (learned,)


def test_a_blend_lies_between_what_it_began_with_and_what_it_became(shapes, start, tmp_path):
    """0.25 of the way from one to the other, in every parameter; training itself goes on as without it."""
    whole, part = (
        Run(shapes[0], replace(TUNED, blend=blend), tmp_path / str(blend), start=start) for blend in (1.0, 0.25)
    )
    for run in (whole, part):
        for _ in range(3):
            take_step(run)
        run.folder.close()
    began, became, blend = (flatten(clip.params) for clip in (start, whole.model(), part.model()))
    for name, leaf in blend.items():
        assert leaf.dtype == began[name].dtype
        np.testing.assert_allclose(leaf, 0.75 * began[name] + 0.25 * became[name], rtol=1e-6, atol=1e-8)
    assert abs(became["text_projection"] - began["text_projection"]).max() > 1e-4
    assert same_bits(whole.params.vector, part.params.vector)
    moved = flatten(part.model(averaged=False).params)
    assert all(same_bits(leaf, moved[name]) for name, leaf in flatten(whole.params.tree).items())


@pytest.mark.parametrize("freeze, blend", [("", 1.0), ("", 0.5), ("image", 0.5), ("text", 1.0)])
def test_it_goes_on_to_the_same_bits_without_what_it_started_from(shapes, start, tmp_path, freeze, blend):
    config = replace(TUNED, freeze=freeze, blend=blend)
    expected = run_to_the_end(shapes, tmp_path / "once", config, start=start, threads=2)
    run = Run(shapes[0], config, tmp_path / "again", start=start)
    take_step(run)
    take_step(run)
    run.folder.log.add(run.numbers)
    run.checkpoint()
    run.folder.close()
    rows = run_to_the_end(shapes, tmp_path / "again", config, resume=True, threads=1)
    assert without_timing(rows)[-1] == without_timing(expected)[-1]
    found, whole = contents(tmp_path / "again"), contents(tmp_path / "once")
    assert found.keys() == whole.keys() == {"last.safetensors", "model.safetensors", "start.safetensors", "log.jsonl"}
    assert all(found[name] == whole[name] for name in found if name != "log.jsonl")
    _, identity = read_arrays(tmp_path / "once" / "last.safetensors")
    assert identity["from"] == load(tmp_path / "once").about["from"]["sha256"]


def test_another_start_is_another_run(shapes, start, once, tmp_path):
    run_to_the_end(shapes, tmp_path, TUNED, start=start)
    before = contents(tmp_path)
    start.params["logit_scale"] = np.nextafter(start.params["logit_scale"], np.float32(0))
    with pytest.raises(ValueError, match="last.safetensors is of another run: what it starts from differ. Resume with"):
        run_to_the_end(shapes, tmp_path, TUNED, start=start, resume=True)
    assert contents(tmp_path) == before
    before = contents(once[0])  # one that started anew
    with pytest.raises(ValueError, match="is of another run: what it starts from differ"):
        run_to_the_end(shapes, once[0], start=start, resume=True)
    assert contents(once[0]) == before


def test_a_folder_where_a_run_took_no_step(shapes, start, tmp_path):
    """Killed before its first checkpoint: the same run begins there, and no other."""
    run_to_the_end(shapes, tmp_path / "once", TUNED, start=start)
    save(start, tmp_path / "start.safetensors")
    before = contents(tmp_path / "once")
    with pytest.raises(ValueError, match="start.safetensors is what another run was to start from.*another --out"):
        run_to_the_end(shapes, tmp_path, TUNED)
    assert contents(tmp_path / "once") == before
    run_to_the_end(shapes, tmp_path, TUNED, start=start)
    assert (tmp_path / "model.safetensors").read_bytes() == before["model.safetensors"]


def test_a_start_of_any_layout_and_precision(shapes, tmp_path):
    """From a folder as transformers writes it, in half precision, with CLIP's own tokens."""
    vision = {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8}
    text = {"context_length": 20, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    config = model_config("vit-tiny") | {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}
    config["preprocess"] |= {"mean": [0.1, 0.2, 0.3]}
    clip = CLIP(initialize(config), config, Tokenizer.clip())
    save(clip, tmp_path / "theirs", layout="huggingface", half=True)
    theirs = load(tmp_path / "theirs")
    run_to_the_end(shapes, tmp_path / "run", replace(TUNED, steps=2), start=theirs)
    tuned = load(tmp_path / "run")
    assert tuned.config == theirs.config and tuned.config["preprocess"]["mean"] == [0.1, 0.2, 0.3]
    assert tuned.tokenizer.vocab_size == 49408
    assert not same_bits(tuned.params["visual"]["proj"], theirs.params["visual"]["proj"])
    assert all(leaf.dtype == np.float32 for leaf in flatten(tuned.params).values())


def test_what_cannot_be_a_start(shapes, tmp_path):
    with pytest.raises(ValueError, match="start is a str; give a CLIP, such as miniclip.load"):
        run_to_the_end(shapes, tmp_path / "out", start="emoji")
    with pytest.raises(ValueError, match="freeze is 'image'; a new model has nothing to keep"):
        run_to_the_end(shapes, tmp_path / "out", replace(SMALL, freeze="image"))
    with pytest.raises(ValueError, match="blend is 0.5; a new model has nothing to keep"):
        run_to_the_end(shapes, tmp_path / "out", replace(SMALL, blend=0.5))
    for share in (0, 1.5, -1, float("nan")):
        with pytest.raises(ValueError, match=f"blend is {share}; it is a share, more than 0 and at most 1"):
            TrainConfig(blend=share)
    with pytest.raises(ValueError, match="freeze is 'pictures'; it must be 'image' or 'text'"):
        TrainConfig(freeze="pictures")
    assert not (tmp_path / "out").exists()


def test_a_configuration_from_before_there_was_fine_tuning():
    description = SMALL.to_json()
    assert description.pop("freeze") == "" and description.pop("blend") == 1
    assert TrainConfig.from_json(description) == SMALL


def test_a_frozen_encoder_that_is_broken_is_named(shapes, start, tmp_path):
    """Only where its running averages are used do they break anything."""
    start.params["visual"]["bn2"]["running_var"][:] = -1
    run = Run(shapes[0], replace(TUNED, freeze="image"), tmp_path, start=start)
    with (
        pytest.raises(TrainingDiverged, match="step 1: .* come from visual.bn2 .batch_norm"),
        np.errstate(all="ignore"),
    ):
        take_step(run)
    run.folder.close()


def test_fewer_things_than_a_batch(shapes, tmp_path):
    """Captions that are the same as tokens are one thing; batches are lowered to as many as there are, if asked."""
    few = some(shapes[0], 6)
    pictures, captions = (
        np.concatenate([few.pictures] * 2),
        [[text.upper() for text in texts] for texts in few.captions],
    )
    data = PictureSet("twice", pictures, np.arange(12), few.captions + captions)
    with pytest.raises(ValueError, match="a batch of 8 is larger than the 6 different captions"):
        Run(data, SMALL, tmp_path / "refused")
    seen = []
    clip, _ = train(data, SMALL, out=tmp_path / "run", progress=False, lower_batch=True, announce=seen.append)
    assert [run.config.batch_size for run in seen] == [6] == [clip.about["config"]["batch_size"]]
    expected, _ = train(data, replace(SMALL, batch_size=6), out=tmp_path / "six", progress=False)
    assert all(same_bits(a, b) for a, b in zip(flatten(clip.params).values(), flatten(expected.params).values()))
    run_to_the_end((data,), tmp_path / "run", lower_batch=True, resume=True)


# ------------------------------------------------------------------------------------------ on a card


@pytest.mark.double
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("freeze", ["image", "text"])
def test_on_a_card_it_is_the_run_of_the_cpu(shapes, tmp_path, card, monkeypatch, freeze, precision):
    vision = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32}
    monkeypatch.setitem(
        MODELS, SMALL.model, {"embed_dim": 32, "vision_cfg": vision, "text_cfg": {"width": 16, "heads": 2, "layers": 1}}
    )
    config = replace(SMALL, steps=2, batch_size=4, micro_batch=2, log_every=2, learning_rate=1e-4)
    start, _ = train(shapes[0], config, out=tmp_path / "start", progress=False)
    config = replace(config, freeze=freeze)
    rows = {}
    for device in ("cpu", "gpu"):
        there = replace(config, precision=precision if device == "gpu" else "float32")
        clip, rows[device] = train(shapes[0], there, out=tmp_path / device, start=start, device=device, progress=False)
        frozen = {name: leaf if device == "cpu" else leaf.get() for name, leaf in branches(clip, freeze).items()}
        assert all(same_bits(leaf, frozen[name]) for name, leaf in branches(start, freeze).items())
    close = {"float32": 1e-4}.get(precision, 0.05)
    assert rows["gpu"][0]["loss"] == pytest.approx(rows["cpu"][0]["loss"], rel=close)
