"""The command line in case of bad input: exit status 2 and one sentence on standard error."""

import os
import pickle
import re
import sys

import numpy as np
import pytest
from cupy_double import cupy_double
from PIL import Image
from test_cli import draw, photos, refused, run, sentence  # noqa: F401

from miniclip import __main__ as command_line
from miniclip import model
from miniclip.checkpoints.checkpoint import read_arrays, write_arrays
from miniclip.cli import main
from miniclip.data.dataset import Evaluation

# ------------------------------------------------------------------------------------------ bad input: data


def nothing(folder):
    pass


def one_class(folder):
    (folder / "red").mkdir()
    draw(folder / "red" / "0.png", "red", 3)
    draw(folder / "red" / "1.png", "red", 5)


def two_classes(folder):
    one_class(folder)
    (folder / "blue").mkdir()
    draw(folder / "blue" / "0.png", "blue", 3)


def empty_classes(folder):
    (folder / "red").mkdir()
    (folder / "blue").mkdir()


def truncated(folder):
    two_classes(folder)
    noise = np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "blue" / "half.png")
    whole = (folder / "blue" / "half.png").read_bytes()
    (folder / "blue" / "half.png").write_bytes(whole[: len(whole) // 2])


def text_as_picture(folder):
    two_classes(folder)
    (folder / "blue" / "letter.png").write_text("Dear user, I am no picture.")


def empty_picture(folder):
    two_classes(folder)
    (folder / "blue" / "void.png").write_bytes(b"")


def table(text):
    def make(folder):
        draw(folder / "a.png", "red", 3)
        draw(folder / "b.png", "blue", 3)
        (folder / "captions.csv").write_bytes(text if isinstance(text, bytes) else text.encode())

    return make


FOLDERS = {
    "an empty folder": (nothing, "folder"),
    "one class": (one_class, "red|one|two"),
    "classes without pictures": (empty_classes, "folder|red|blue"),
    "a truncated picture": (truncated, "half.png"),
    "a text called .png": (text_as_picture, "letter.png"),
    "a picture of no bytes": (empty_picture, "void.png"),
    "no caption column": (table("image,text\na.png,red\nb.png,blue\n"), "captions.csv.*caption"),
    "no image column": (table("picture,caption\na.png,red\nb.png,blue\n"), "captions.csv.*image"),
    "a picture that is not there": (table("image,caption\na.png,red\nlost.png,blue\n"), "lost.png"),
    "no row": (table("image,caption\n"), "captions.csv"),
    "no line": (table(""), "captions.csv"),
    "one pair": (table("image,caption\na.png,red\n"), "two"),
    "one caption": (table("image,caption\na.png,red\nb.png,red\n"), "two"),
    "an empty caption": (table("image,caption\na.png,red\nb.png,\n"), "captions.csv"),
    "a row cut short": (table("image,caption\na.png,red\nb.png\n"), "captions.csv"),
    "a table in another alphabet": (table("image,caption\na.png,röd\nb.png,blå\n".encode("utf-16")), "captions.csv"),
    "a binary table": (table(b"\x00\x01\xff\xfe\x00"), "captions.csv"),
    "a picture outside": (table("image,caption\na.png,red\n../b.png,blue\n"), "b.png"),
    "a folder as picture": (table("image,caption\na.png,red\n.,blue\n"), "captions.csv|folder"),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_bad_pictures_and_captions(case, tmp_path, capsys):
    make, named = FOLDERS[case]
    folder, out = tmp_path / "folder", tmp_path / "out"
    folder.mkdir()
    make(folder)
    said = refused(capsys, "train", "--data", folder, "--out", out, "--preset", "shapes", "--steps", 1)
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
        (["--threads", 0], "threads is 0; it must be at least 1"),
        (["--threads", -2], "threads is -2"),
        (["--steps", 0], "steps is 0; it must be at least 1"),
        (["--batch", 0], "batch is 0"),
        (["--batch", 7], "a batch of 7 is larger than the 6 different captions"),
        (["--seed", -1], "seed is -1"),
        (["--learning-rate", 0], "learning_rate is 0.0; it must be more than 0"),
        (["--learning-rate", "nan"], "learning_rate is nan"),
        (["--hold-out", "noto"], "'noto' is an emoji style"),
    ],
)
def test_options_that_cannot_be(photos, tmp_path, capsys, options, said):
    out = tmp_path / "out"
    answer = refused(capsys, "train", "--data", photos, "--out", out, "--preset", "shapes", "--steps", 1, *options)
    assert said in answer and not out.exists()


def test_an_unknown_style(run, tmp_path, capsys):
    assert "picasso" in refused(capsys, "search", "a dog", "--style", "picasso", "--checkpoint", run[0])
    assert "picasso" in refused(capsys, "train", "--hold-out", "picasso", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_to(photos, tmp_path, capsys):
    (tmp_path / "file").write_text("precious")
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        assert str(out) in refused(capsys, "train", "--data", photos, "--out", out, "--preset", "shapes", "--steps", 1)
    assert (tmp_path / "file").read_text() == "precious"


def test_a_run_is_neither_overwritten_nor_changed(run, photos, capsys):
    arguments = ["train", "--data", photos, "--out", run[0], "--preset", "shapes", "--steps", 12]
    before = {path.name: path.read_bytes() for path in run[0].iterdir()}
    assert "holds a run already: go on with --resume" in refused(capsys, *arguments)
    assert "steps differ" in refused(capsys, *arguments[:-1], 13, "--resume")
    assert "model differ" in refused(capsys, *arguments, "--model", "vit-tiny", "--resume")
    assert {path.name: path.read_bytes() for path in run[0].iterdir()} == before


def test_a_gpu_that_is_not_there(run, photos, tmp_path, capsys):
    try:
        import cupy

        if cupy.cuda.is_available():
            pytest.skip("there is one")
    except ImportError:
        pass
    out = tmp_path / "out"
    for arguments in (
        ["train", "--data", photos, "--out", out, "--preset", "shapes"],
        ["evaluate", run[0]],
        ["search", "a dog", "--checkpoint", run[0]],
        ["classify", photos / "red" / "0.png", "--labels", "a,b", "--checkpoint", run[0]],
    ):
        assert "device" in (said := refused(capsys, *arguments, "--device", "gpu")) and "cpu" in said
    assert not out.exists()


@pytest.mark.parametrize("there", ["nothing", "a card that is full", "a machine that is full"])
def test_memory_that_runs_out(run, photos, tmp_path, capsys, monkeypatch, there):
    """Evaluate, search and classify, too, say it in one sentence; train's is in test_memory.py."""
    device, encode_image = "gpu" if there == "a card that is full" else "cpu", model.encode_image

    def full(*arguments, **options):
        pool = sys.modules["cupy"].get_default_memory_pool()
        pool.set_limit(pool.used_bytes())  # the model fits, and nothing more
        return encode_image(*arguments, **options)

    if device == "gpu":
        monkeypatch.setattr(model, "encode_image", full)
    if there == "a machine that is full":
        monkeypatch.setattr(model, "encode_image", lambda *_, **__: np.empty(1 << 56))
    picture = photos / "red" / "0.png"
    exam = Evaluation("two", np.zeros((2, 8, 8, 4), np.uint8), np.arange(2), ["red", "blue"])
    monkeypatch.setattr(command_line, "load_data", lambda *_, **__: (None, [exam]))
    for arguments in (
        ["evaluate", run[0], "--data", "two"],
        ["search", "a dog", "--style", "noto", "--checkpoint", run[0]],
        ["classify", picture, "--labels", "a,b", "--checkpoint", run[0]],
    ):
        arguments = [*map(str, arguments), "--device", device]
        if there == "nothing":
            assert main(arguments) == 0 and capsys.readouterr().err == ""
            continue
        with cupy_double(memory=8 << 30):
            said = refused(capsys, *arguments)
        assert (
            "the machine's memory ran out (Unable to allocate " in said
            if device == "cpu"
            else "the graphics card's memory ran out: it has 8.0 GiB" in said
        )


def test_a_loss_that_explodes(photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert (
        main(
            [
                "train",
                "--data",
                str(photos),
                "--out",
                str(out),
                "--preset",
                "shapes",
                "--steps",
                "4",
                "--learning-rate",
                "1e30",
            ]
        )
        == 2
    )
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("miniclip: step 2: ") and "last good checkpoint, of step 0, is kept in" in last
    assert {path.name for path in out.iterdir()} == {"last.safetensors", "log.jsonl"}
    assert all(np.isfinite(array).all() for array in read_arrays(out / "last.safetensors")[0].values())


def test_an_interruption(photos, tmp_path, capsys, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "train", interrupt)
    assert main(["train", "--data", str(photos), "--out", str(tmp_path / "out")]) == 130
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
def test_bad_checkpoints(case, run, photos, tmp_path, capsys):
    path = tmp_path / "bad.safetensors"
    CHECKPOINTS[case](path, run[0] / "model.safetensors")
    for arguments in (
        ["evaluate", path],
        ["search", "a dog", "--checkpoint", path],
        ["classify", photos / "red" / "0.png", "--labels", "a,b", "--checkpoint", path],
    ):
        assert "bad.safetensors" in refused(capsys, *arguments)


@pytest.mark.parametrize(
    "name, content",
    [
        ("lost.png", None),
        ("letter.png", b"Dear user"),
        ("void.png", b""),
        ("half.png", "half"),
        ("folder.png", "folder"),
        ("header.ppm", b"P6 4 four 255 "),
    ],
)
def test_a_picture_that_cannot_be_classified(name, content, run, photos, tmp_path, capsys):
    path = tmp_path / name
    if content == "half":
        truncated(tmp_path)
        path = tmp_path / "blue" / "half.png"
    elif content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    assert name in refused(capsys, "classify", path, "--labels", "red,blue", "--checkpoint", run[0])


@pytest.mark.parametrize(
    "options, said",
    [
        (["--labels", "red"], "--labels names 1 label; give at least two"),
        (["--labels", " , "], "--labels names 0 label"),
        (["--labels", "red,blue", "--template", "a picture"], "must contain {} exactly once"),
    ],
)
def test_labels_that_cannot_be(options, said, run, photos, capsys):
    assert said in refused(capsys, "classify", photos / "red" / "0.png", "--checkpoint", run[0], *options)


def test_search_for_nothing(run, capsys):
    said = refused(capsys, "search", "a dog", "--count", 0, "--checkpoint", run[0])
    assert "count is 0; it must be at least 1" in said
