"""`train --from`: fine-tuning from the command line."""

import shutil

import numpy as np
import pytest
from commands import command, refused

import miniclip
from miniclip import data, gpu, init, training
from miniclip.commands import train as train_command
from miniclip.gradcheck.contract import same_bits
from miniclip.model import CLIP
from miniclip.tokenizer import Tokenizer
from miniclip.tree import flatten

SHORT = "--preset", "shapes", "--steps", 4, "--threads", 1


@pytest.fixture
def checkpoint(trained, tmp_path):
    """A copy of a trained model, at a place of its own."""
    path = tmp_path / "checkpoint.safetensors"
    shutil.copy(trained[0] / "model.safetensors", path)
    return path


def test_fine_tuning_a_checkpoint(photos, checkpoint, tmp_path, capsys):
    """It keeps the tokenizer and the architecture, and says where it came from and what it was trained on."""
    assert command("train", "--data", photos, "--from", checkpoint, "--out", tmp_path / "out", *SHORT) == 0
    said = capsys.readouterr().out
    assert f"Fine-tuning {checkpoint} on 18 pictures of 6 things (photos), 4 steps of 6, into " in said
    start, tuned = miniclip.load(checkpoint), miniclip.load(tmp_path / "out")
    assert (tuned.config, tuned.tokenizer.merges) == (start.config, start.tokenizer.merges)
    assert not same_bits(tuned.params["text_projection"], start.params["text_projection"])
    about = tuned.about
    assert about["from"]["checkpoint"] == str(checkpoint) and len(about["from"]["sha256"]) == 64
    assert about["data"] == str(photos.resolve())
    assert about["fingerprint"] == training.fingerprint(data.load_data(photos)[0])
    assert about["config"]["learning_rate"] == 2e-4 and about["step"] == 4


def test_data_of_ones_own_and_generated_are_remembered(trained, photos, shapes, once):
    about = miniclip.load(trained[0]).about
    assert (about["data"], about["fingerprint"]) == (
        str(photos.resolve()),
        training.fingerprint(data.load_data(photos)[0]),
    )
    about = miniclip.load(once[0]).about
    assert (about["data"], about["fingerprint"]) == ("shapes", training.fingerprint(shapes[0]))
    assert "from" not in about


@pytest.mark.parametrize("again", [(), ("--from", "checkpoint")], ids=["without --from", "where --from is gone"])
def test_resuming_without_the_checkpoint(photos, checkpoint, tmp_path, capsys, again):
    words = "train", "--data", photos, *SHORT, "--freeze", "image"
    assert command(*words, "--from", checkpoint, "--out", tmp_path / "once") == 0
    stop = *words, "--from", checkpoint, "--out", tmp_path / "again"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.Run, "update", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert command(*stop) == 130
    checkpoint.unlink()
    words = *words, *[checkpoint if word == "checkpoint" else word for word in again]
    capsys.readouterr()
    assert command(*words, "--out", tmp_path / "again", "--resume") == 0
    said = capsys.readouterr().out
    assert ("is not here: going on from the copy of it" in said) == bool(again)
    assert f"Fine-tuning {checkpoint}, its image encoder frozen, on 18 pictures" in said
    for name in ("model.safetensors", "last.safetensors", "start.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "once" / name).read_bytes()


@pytest.mark.parametrize(
    "options, said",
    [
        ("--from nowhere.safetensors", "there is no nowhere.safetensors"),
        ("--from nowhere.safetensors --resume", "there is no nowhere.safetensors"),
        ("--preset words", "blend is 0.5; a new model has nothing to keep: say what to start from"),
        ("--freeze text", "freeze is 'text'; a new model has nothing to keep: say what to start from"),
        ("--from CHECKPOINT --model vit-tiny", "checkpoint.safetensors is not of the architecture vit-tiny"),
        ("--from CHECKPOINT --model resnet-tiny", "is not of the architecture resnet-tiny: leave out --model"),
        ("--blend 0.5", "blend is 0.5; a new model has nothing to keep: say what to start from"),
        ("--from CHECKPOINT --blend 0", "blend is 0.0; it is a share, more than 0 and at most 1"),
        ("--from CHECKPOINT --learning-rate 0", "learning_rate is 0.0"),
        ("--image-size 64", "--image-size is said of a model that exists: give it with --from"),
        ("--no-quick-gelu", "--quick-gelu is said of a model that exists"),
        (
            "--from CHECKPOINT --image-size 40",
            "checkpoint.safetensors cannot be used: image_size is '40', not a multiple",
        ),
    ],
)
def test_what_is_refused(photos, checkpoint, tmp_path, capsys, options, said):
    words = [str(checkpoint) if word == "CHECKPOINT" else word for word in options.split()]
    answer = refused(capsys, "train", "--data", photos, "--out", tmp_path / "out", *SHORT, *words)
    assert said in answer and not (tmp_path / "out").exists()


def test_flags_that_do_not_contradict(photos, checkpoint, tmp_path):
    words = "--from", checkpoint, "--model", "resnet-micro", "--learning-rate", 1e-3, "--batch-size", 4
    assert command("train", "--data", photos, "--out", tmp_path / "out", *SHORT, *words) == 0
    config = miniclip.load(tmp_path / "out").about["config"]
    assert (config["learning_rate"], config["batch_size"]) == (1e-3, 4)


@pytest.mark.parametrize("seed", [0, 1])
def test_held_out_pictures_that_were_trained_on(photos, checkpoint, tmp_path, capsys, seed):
    """With another seed, others are held out of the same folder."""
    words = "--from", checkpoint, "--seed", seed
    assert command("train", "--data", photos, "--out", tmp_path / "out", *SHORT, *words) == 0
    assert ("Beware: it may have been trained on pictures" in capsys.readouterr().out) == (seed == 1)


@pytest.mark.parametrize("least, rate", [(10_000, 1e-5), (10_000_000, 2e-4)])
def test_large_models_are_tuned_more_slowly(photos, checkpoint, tmp_path, monkeypatch, least, rate):
    monkeypatch.setattr(train_command, "FINE_TUNING_RATES", {0: 2e-4, least: 1e-5})
    assert command("train", "--data", photos, "--out", tmp_path / "out", *SHORT, "--from", checkpoint) == 0
    assert miniclip.load(tmp_path / "out").about["config"]["learning_rate"] == rate


def test_pictures_of_another_size(photos, checkpoint, tmp_path):
    words = "--from", checkpoint, "--image-size", 64
    assert command("train", "--data", photos, "--out", tmp_path / "out", *SHORT, *words) == 0
    assert miniclip.load(tmp_path / "out").config["vision_cfg"]["image_size"] == 64


@pytest.mark.parametrize("side, size", [(32, None), (96, 96)])
def test_pictures_are_read_as_large_as_the_model_takes_them(photos, tmp_path, monkeypatch, side, size):
    text = {"context_length": 40, "vocab_size": 514, "width": 8, "heads": 2, "layers": 1}
    vision = {"image_size": side, "layers": 1, "width": 8, "head_width": 8, "patch_size": 32}
    config = init.model_config("vit-tiny") | {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}
    clip = CLIP(init.initialize(config), config, Tokenizer([]))
    miniclip.save(clip, tmp_path / "start.safetensors")
    asked, load_data = [], data.load_data

    def watch(name, size=None, **options):
        asked.append(size)
        return load_data(name, size, **options)

    monkeypatch.setattr(data, "load_data", watch)
    words = "--from", tmp_path / "start.safetensors", "--out", tmp_path / "out"
    assert command("train", "--data", photos, *SHORT, *words) == 0 and asked == [size]
    shapes = {name: leaf.shape for name, leaf in flatten(miniclip.load(tmp_path / "out").params).items()}
    assert shapes == init.parameter_shapes(config)


def test_the_second_stage_ends_half_way(photos, checkpoint, tmp_path):
    """Preset `words` has an optimizer and a learning rate of its own; its result is the mean of before and after."""
    words = "train", "--data", photos, "--from", checkpoint, "--preset", "words", "--steps", 3, "--threads", 1
    assert command(*words, "--out", tmp_path / "half") == command(*words, "--out", tmp_path / "all", "--blend", 1) == 0
    half, tuned = miniclip.load(tmp_path / "half"), miniclip.load(tmp_path / "all")
    own = training.PRESETS["words"]
    assert half.about["config"]["learning_rate"] == own.learning_rate != 2e-4
    assert half.about["config"]["optimizer"] == own.optimizer == "muon" and own.blend == 0.5
    were, are, became = (flatten(clip.params) for clip in (miniclip.load(checkpoint), half, tuned))
    for name in ("text_projection", "visual.conv1.weight"):
        assert not same_bits(were[name], became[name])
    for name, leaf in are.items():
        np.testing.assert_allclose(leaf, (were[name].astype(float) + became[name]) / 2, rtol=1e-6, atol=1e-7)


def test_the_folder_of_the_run_has_a_name_of_its_own(photos, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command("train", "--data", photos, "--from", "checkpoint.safetensors", *SHORT) == 0
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["photos-from-checkpoint-safetensors"]


def test_the_choices_are_those_that_there_are():
    """They stand in the command once more, so that --help need not import what they are of."""
    theirs = tuple(training.PRESETS), tuple(init.MODELS), tuple(gpu.PRECISIONS)
    assert (train_command.PRESETS, train_command.MODELS, train_command.PRECISIONS) == theirs
