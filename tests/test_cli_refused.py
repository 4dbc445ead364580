"""The command line in case of bad input: exit status 2 and one sentence on standard error."""

import os
import pickle
import re
import sys

import numpy as np
import pytest
from commands import command, draw, refused, sentence

from miniclip import model
from miniclip.checkpoints import read_arrays, write_arrays
from miniclip.data import Evaluation

TRAIN = "--preset", "shapes", "--steps", 1


# ------------------------------------------------------------------------------------------ bad input: data


TABLE = b"image,caption\na.png,red\n"
FOLDERS = {  # the files, None being a picture, and what the sentence names; more in data/test_folder.py
    "an empty folder": ({}, "folder"),
    "one class": ({"red/0.png": None, "red/1.png": None}, "one class"),
    "a picture of no bytes": ({"red/0.png": None, "blue/void.png": b""}, "void.png"),
    "a picture that is not there": ({"a.png": None, "captions.csv": TABLE + b"lost.png,blue\n"}, "lost.png"),
    "a folder as a picture": ({"a.png": None, "captions.csv": TABLE + b".,blue\n"}, "captions.csv|folder"),
    "a table of another encoding": ({"captions.csv": "image,caption\na.png,röd".encode("utf-16")}, "captions.csv"),
    "a binary table": ({"captions.csv": b"\x00\x01\xff\xfe\x00"}, "captions.csv"),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_bad_pictures_and_captions(case, tmp_path, capsys):
    files, named = FOLDERS[case]
    folder, out = tmp_path / "folder", tmp_path / "out"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        if content is None:
            draw(folder / name, "red", 3)
        else:
            (folder / name).write_bytes(content)
    said = refused(capsys, "train", "--data", folder, "--out", out, *TRAIN)
    assert re.search(named, said), said
    assert not out.exists()


@pytest.mark.parametrize("data", ["nowhere", "nowhere/at/all", "emojis"])
def test_data_that_is_not_there(data, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = refused(capsys, "train", "--data", data)
    assert data in said and "emoji" in said and "shapes" in said
    assert os.listdir(tmp_path) == []


def test_a_file_as_data(tmp_path, capsys):
    (tmp_path / "photos.zip").write_bytes(b"PK")
    assert "photos.zip" in refused(capsys, "train", "--data", tmp_path / "photos.zip", "--out", tmp_path / "out")


# ------------------------------------------------------------------------------------------ bad input: options


@pytest.mark.parametrize(
    "options, said",
    [
        ("--threads 0", "threads is 0; it must be at least 1"),
        ("--threads -2", "threads is -2"),
        ("--steps 0", "steps is 0; it must be at least 1"),
        ("--batch-size 0", "batch_size is 0"),
        ("--batch-size 7", "a batch of 7 is larger than the 6 different captions"),
        ("--micro-batch 0", "micro_batch is 0"),
        ("--seed -1", "seed is -1"),
        ("--learning-rate 0", "learning_rate is 0.0; it must be more than 0"),
        ("--learning-rate nan", "learning_rate is nan"),
        ("--hold-out noto", "'noto' is an emoji style"),
        ("--precision bfloat16", "'bfloat16' gains nothing on the processor"),
    ],
)
def test_options_that_cannot_be(photos, tmp_path, capsys, options, said):
    out = tmp_path / "out"
    answer = refused(capsys, "train", "--data", photos, "--out", out, *TRAIN, *options.split())
    assert said in answer and not out.exists()


def test_an_unknown_style(trained, tmp_path, capsys):
    assert "picasso" in refused(capsys, "search", "a dog", "--style", "picasso", "--checkpoint", trained[0])
    assert "picasso" in refused(capsys, "train", "--hold-out", "picasso", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_to(photos, tmp_path, capsys):
    (tmp_path / "file").write_text("precious")
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        assert str(out) in refused(capsys, "train", "--data", photos, "--out", out, *TRAIN)
    assert (tmp_path / "file").read_text() == "precious"


def test_a_run_is_neither_overwritten_nor_changed(trained, photos, capsys):
    arguments = ["train", "--data", photos, "--out", trained[0], "--preset", "shapes", "--steps", 12]
    before = {path.name: path.read_bytes() for path in trained[0].iterdir()}
    assert "holds a run already: go on with --resume" in refused(capsys, *arguments)
    assert "steps differ" in refused(capsys, *arguments[:-1], 13, "--resume")
    assert "model differ" in refused(capsys, *arguments, "--model", "vit-tiny", "--resume")
    assert {path.name: path.read_bytes() for path in trained[0].iterdir()} == before


def test_a_gpu_that_is_not_there(trained, photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    out = tmp_path / "out"
    for arguments in (
        ["train", "--data", photos, "--out", out, *TRAIN],
        ["evaluate", trained[0]],
        ["search", "a dog", "--checkpoint", trained[0]],
        ["classify", photos / "red" / "0.png", "--labels", "a,b", "--checkpoint", trained[0]],
    ):
        assert "device" in (said := refused(capsys, *arguments, "--device", "gpu")) and "cpu" in said
    assert not out.exists()


@pytest.fixture
def asking(trained, photos, tmp_path, monkeypatch):
    """The commands that embed a picture."""
    evaluation = Evaluation("two", np.zeros((2, 8, 8, 4), np.uint8), np.arange(2), ["red", "blue"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("miniclip.data.load_data", lambda *_, **__: (None, [evaluation]))
    monkeypatch.setattr("miniclip.commands.evaluate.compare", lambda *_, **__: None)
    monkeypatch.setattr("miniclip.evaluation.index.emoji_pictures", lambda _: (evaluation.pictures, ["1f34e", "1f499"]))
    return (
        ["evaluate", trained[0], "--data", "two"],
        ["search", "a dog", "--style", "noto", "--checkpoint", trained[0]],
        ["classify", photos / "red" / "0.png", "--labels", "a,b", "--checkpoint", trained[0]],
    )


def test_the_machines_memory_runs_out(asking, capsys, monkeypatch):
    """Evaluate, search and classify, too, print one sentence; train's is in test_loop.py."""
    monkeypatch.setattr(model, "encode_image", lambda *_, **__: np.empty(1 << 56))
    for arguments in asking:
        assert "the machine's memory ran out (Unable to allocate " in refused(capsys, *arguments)


@pytest.mark.double
@pytest.mark.parametrize("full", [False, True])
def test_the_cards_memory_runs_out(asking, capsys, monkeypatch, full):
    from cupy_double import cupy_double

    def limited(*arguments, original=model.encode_image, **options):
        pool = sys.modules["cupy"].get_default_memory_pool()
        pool.set_limit(pool.used_bytes())  # the model fits, and nothing more
        return original(*arguments, **options)

    if full:
        monkeypatch.setattr(model, "encode_image", limited)
    for arguments in asking:
        with cupy_double(memory=8 << 30):
            if full:
                said = refused(capsys, *arguments, "--device", "gpu")
                assert "the graphics card's memory ran out: it has 8.0 GiB" in said
            else:
                assert command(*arguments, "--device", "gpu") == 0 and capsys.readouterr().err == ""


def test_a_loss_that_explodes(photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert command("train", "--data", photos, "--out", out, *TRAIN[:-1], 4, "--learning-rate", 1e30) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("miniclip: step 2: ") and "last good checkpoint, of step 0, is kept in" in last
    assert {path.name for path in out.glob("[!.]*")} == {"last.safetensors", "log.jsonl"}
    assert all(np.isfinite(array).all() for array in read_arrays(out / "last.safetensors")[0].values())


def test_an_interruption(photos, tmp_path, capsys, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("miniclip.training.train", interrupt)
    assert command("train", "--data", photos, "--out", tmp_path / "out") == 130
    assert "--resume" in sentence(capsys.readouterr().err)


# ------------------------------------------------------------------------------------------ bad input: models


def other_architecture(path, good):
    arrays, metadata = read_arrays(good)
    metadata["config"]["text_cfg"]["width"] *= 2
    write_arrays(path, arrays, metadata)


CHECKPOINTS = {
    "missing": lambda path, good: None,
    "truncated": lambda path, good: path.write_bytes(good.read_bytes()[:-1000]),
    "of no bytes": lambda path, good: path.write_bytes(b""),
    "pickle": lambda path, good: path.write_bytes(pickle.dumps({"weight": [1.0, 2.0]})),
    "text": lambda path, good: path.write_text("a model, honestly"),
    "architecture": other_architecture,
    "optimizer": lambda path, good: path.write_bytes((good.parent / "last.safetensors").read_bytes()),
    "folder": lambda path, good: path.mkdir(),
}


@pytest.mark.parametrize("case", CHECKPOINTS)
def test_bad_checkpoints(case, trained, photos, tmp_path, capsys):
    path = tmp_path / "bad.safetensors"
    CHECKPOINTS[case](path, trained[0] / "model.safetensors")
    for arguments in (
        ["evaluate", path],
        ["search", "a dog", "--checkpoint", path],
        ["classify", photos / "red" / "0.png", "--labels", "a,b", "--checkpoint", path],
    ):
        assert "bad.safetensors" in refused(capsys, *arguments)


PICTURES = {  # a file name, and how the file is made
    "lost.png": lambda path: None,
    "letter.png": lambda path: path.write_bytes(b"Dear user"),
    "void.png": lambda path: path.write_bytes(b""),
    "half.png": lambda path: (draw(path, "red", 3), path.write_bytes(path.read_bytes()[:60])),
    "folder.png": lambda path: path.mkdir(),
    "header.ppm": lambda path: path.write_bytes(b"P6 4 four 255 "),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_that_cannot_be_classified(name, trained, tmp_path, capsys):
    PICTURES[name](tmp_path / name)
    assert name in refused(capsys, "classify", tmp_path / name, "--labels", "red,blue", "--checkpoint", trained[0])


@pytest.mark.parametrize(
    "options, said",
    [
        (["--labels", "red"], "--labels names 1 label; give at least two"),
        (["--labels", " , "], "--labels names 0 label"),
        (["--labels", "red,red"], "--labels names 1 label"),
        (["--labels", "Red,red"], "--labels names 1 label that the model tells from others"),
        (["--labels", "red,&nbsp;"], "the label '&nbsp;' holds no words"),
        (["--labels", "red," + "word " * 1000], "tokens, and this model reads at most 22"),
        (["--labels", 'red,"blue'], "--labels is no line of a CSV"),
        (["--labels", "red,blue", "--count", "0"], "--count is 0; it must be at least 1"),
        (["--labels", "red,blue", "--template", "a picture"], "must contain {} exactly once"),
    ],
)
def test_labels_that_cannot_be(options, said, trained, photos, capsys):
    assert said in refused(capsys, "classify", photos / "red" / "0.png", "--checkpoint", trained[0], *options)


@pytest.mark.parametrize("count", [0, -1])
def test_a_count_of_none(count, trained, capsys):
    said = refused(capsys, "search", "a dog", "--count", count, "--checkpoint", trained[0])
    assert f"count is {count}; it must be at least 1" in said
