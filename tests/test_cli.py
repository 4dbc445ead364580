import json
import math
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw

import miniclip
from miniclip import __main__ as command_line
from miniclip.cli import main
from miniclip.training.config import PRESETS

COMMANDS = ["train", "evaluate", "search", "classify", "gradcheck"]
COLOURS = ["red", "green", "blue", "yellow", "black", "orange"]


def draw(path, colour, corner, size=(40, 36)):
    picture = Image.new("RGB", size, "white")
    ImageDraw.Draw(picture).rectangle([corner, corner, corner + 20, corner + 14], fill=colour)
    picture.save(path)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A user's folder: six classes of three pictures."""
    folder = tmp_path_factory.mktemp("user") / "photos"
    for colour in COLOURS:
        (folder / colour).mkdir(parents=True)
        for i in range(3):
            draw(folder / colour / f"{i}.png", colour, 4 + 3 * i)
    return folder


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    """A run on these pictures, as a user starts it: its folder and what was printed."""
    out = tmp_path_factory.mktemp("runs") / "colours"
    done = python("train", "--data", photos, "--out", out, "--preset", "shapes", "--steps", "12", "--threads", "2")
    assert done.returncode == 0, done.stderr
    return out, done


def python(*arguments):
    """python -m miniclip …, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "miniclip", *map(str, arguments)], capture_output=True, text=True, timeout=120
    )


def refused(capsys, *arguments):
    """The one sentence on standard error with which a command is refused."""
    assert main(list(map(str, arguments))) == 2
    return sentence(capsys.readouterr().err)


def sentence(errors):
    lines = errors.splitlines()
    assert len(lines) == 1 and lines[0].startswith("miniclip: "), errors
    assert len(lines[0]) < 600 and "Traceback" not in lines[0] and "Errno" not in lines[0]
    return lines[0]


# ------------------------------------------------------------------------------------------ help


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as exit:
        main([command, "--help"])
    text = capsys.readouterr().out
    assert exit.value.code == 0
    assert f"example: python -m miniclip {command} " in text
    example = text.split("example: python -m miniclip ")[1].splitlines()[0]
    assert command_line.parser().parse_args(shlex.split(example)).run  # and it is one that can be given


def test_help_names_the_commands_and_installs_as_a_program():
    done = python("--help")
    assert done.returncode == 0 and all(command in done.stdout for command in COMMANDS)
    assert done.stderr == ""


def test_train_knows_what_was_promised(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = capsys.readouterr().out
    for option in ("--data", "--model", "--preset", "--out", "--resume", "--seed", "--threads", "--device"):
        assert option in text
    assert all(name in text for name in PRESETS)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["paint"],
        ["train", "--preset", "fast"],
        ["train", "--model", "resnet-50"],
        ["train", "--device", "tpu"],
        ["train", "--steps", "many"],
        ["train", "--speed", "3"],
        ["search"],
        ["classify", "a.png"],
        ["classify", "--labels", "a,b"],
    ],
)
def test_what_argparse_refuses(arguments, capsys):
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert exit.value.code == 2
    assert "usage: python -m miniclip" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------ from pictures to an answer


def test_training_on_ones_own_pictures(run, photos):
    out, done = run
    assert "18 pictures of 6 things" in done.stdout and "using 6" in done.stdout
    assert f"Saved {out}/model.safetensors" in done.stdout
    assert {path.name for path in out.iterdir()} == {"last.safetensors", "model.safetensors", "log.jsonl"}
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [10, 12]
    assert all(math.isfinite(row["loss"]) for row in rows if "loss" in row)
    clip = miniclip.load(out)
    assert clip.about["step"] == 12 and clip.about["recipe"]["batch"] == 6
    assert clip.classify([Image.open(photos / "red" / "0.png")], COLOURS).shape == (1, 6)


def test_what_a_process_says_in_case_of_bad_input(photos, run):
    for arguments in (
        ["train", "--data", "nowhere"],
        ["train", "--data", photos, "--out", run[0]],
        ["evaluate", "nowhere"],
        ["classify", "nowhere.png", "--labels", "a,b", "--checkpoint", run[0]],
    ):
        done = python(*arguments)
        assert done.returncode == 2 and "Saved" not in done.stdout
        sentence(done.stderr)


def test_the_same_command_gives_the_same_bits(run, photos, tmp_path, capsys):
    arguments = ["train", "--data", photos, "--out", tmp_path / "again", "--preset", "shapes", "--steps", 12]
    assert main(list(map(str, [*arguments, "--threads", 1]))) == 0
    assert (tmp_path / "again/model.safetensors").read_bytes() == (run[0] / "model.safetensors").read_bytes()
    assert main(list(map(str, [*arguments, "--resume"]))) == 0  # done already: nothing is left to do
    assert (tmp_path / "again/model.safetensors").read_bytes() == (run[0] / "model.safetensors").read_bytes()


def test_a_profile_of_a_run(run, photos, tmp_path, capsys):
    """Two tables and one sentence; the model is the one of the run that was not watched."""
    assert (
        main(
            [
                "train",
                "--data",
                str(photos),
                "--out",
                str(tmp_path / "out"),
                "--preset",
                "shapes",
                "--steps",
                "12",
                "--profile",
            ]
        )
        == 0
    )
    assert (tmp_path / "out/model.safetensors").read_bytes() == (run[0] / "model.safetensors").read_bytes()
    text = capsys.readouterr().out
    assert re.search(r"^input side \d+\.\d% of wall time$", text, re.M)
    for row in (
        "input: reading and decoding the pictures",
        "embedding, forward",
        "pulling back",
        "AdamW",
        "checkpoint",
        "conv2d",
        "batch_norm",
        "linear",
        "embedding ",
        "softmax",
    ):
        assert re.search(rf"^{row} +\d", text, re.M), row
    assert "where the time goes" not in run[1].stdout


def test_a_shard_of_ones_own(photos, tmp_path):
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
                "1",
                "--shard",
                "2",
                "--recompute",
            ]
        )
        == 0
    )
    recipe = miniclip.load(out).about["recipe"]
    assert recipe["shard"] == 2 and recipe["recompute"] is True


def test_classify(run, photos, capsys):
    pictures = [str(photos / "red" / "0.png"), str(photos / "blue" / "1.png")]
    assert main(["classify", *pictures, "--labels", "red, green ,blue,", "--checkpoint", str(run[0])]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [lines[0], lines[4]] == pictures and len(lines) == 8
    for answers in (lines[1:4], lines[5:8]):
        chances = [float(line.split("%")[0]) for line in answers]
        assert {line.split("%")[1].strip() for line in answers} == {"red", "green", "blue"}
        assert chances == sorted(chances, reverse=True) and sum(chances) == pytest.approx(100, abs=0.03)
    one = ["classify", pictures[0], "--labels", "red,green,blue", "--checkpoint", str(run[0] / "model.safetensors")]
    assert main([*one, "--template", "a {} thing", "--template", "{}", "--count", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_classify_takes_any_picture(run, photos, tmp_path, capsys):
    """Of any mode, proportion and format; transparent pixels are white, as in training."""
    red = Image.open(photos / "red" / "0.png")
    red.save(tmp_path / "photo.jpg")
    red.convert("L").save(tmp_path / "grey.png")
    red.convert("P").save(tmp_path / "palette.gif")
    red.resize((300, 3)).save(tmp_path / "wide.png")
    clear = np.array(red.convert("RGBA"))
    clear[(clear == 255).all(-1)] = 0
    Image.fromarray(clear).save(tmp_path / "clear.png")
    names = ["photo.jpg", "grey.png", "palette.gif", "wide.png", "clear.png"]
    arguments = ["--labels", ",".join(COLOURS), "--checkpoint", str(run[0])]
    assert main(["classify", *(str(tmp_path / name) for name in names), *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 * 6
    assert main(["classify", str(photos / "red" / "0.png"), *arguments]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == lines[-5:]  # as if it had been on white


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Enough pictures of two classes for some to be kept from training, and a model of them, with seed 3."""
    folder = tmp_path_factory.mktemp("user") / "many"
    for colour in ("red", "dark-blue"):
        (folder / colour).mkdir(parents=True)
        for i in range(10):
            draw(folder / colour / f"{i}.png", colour.replace("-", ""), i)
    out = folder.parent / "run"
    assert (
        main(
            [
                "train",
                "--data",
                str(folder),
                "--out",
                str(out),
                "--preset",
                "shapes",
                "--steps",
                "25",
                "--seed",
                "3",
                "--batch",
                "2",
                "--evaluate-every",
                "20",
            ]
        )
        == 0
    )
    return folder, out


def test_a_photo_is_turned_upright(run, photos, tmp_path, capsys):
    """As in training: the camera's EXIF data say which way is up."""
    picture, exif = Image.open(photos / "red" / "0.png"), Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    picture.save(tmp_path / "turned.png", exif=exif)
    picture.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "upright.png")
    answers = []
    for name in ("turned.png", "upright.png"):
        assert main(["classify", str(tmp_path / name), "--labels", ",".join(COLOURS), "--checkpoint", str(run[0])]) == 0
        answers.append(capsys.readouterr().out.splitlines()[1:])
    assert answers[0] == answers[1]


def test_evaluate(many, capsys):
    folder, out = many
    assert main(["evaluate", str(out), "--data", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "top-1" in text and "chance" in text and "validation classes" in text
    assert main(["evaluate", str(out), "--data", str(folder), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["n"] == 2 and row["choices"] == 2 and row["chance"] == 0.5
    assert 0 <= row["top1"] <= row["top5"] == row["ensemble_top5"] == 1
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log if "loss" not in line] == [20, 25]
    assert log[-1]["eval/validation classes/ensemble_top1"] == row["ensemble_top1"]


def test_evaluate_asks_about_pictures_that_training_did_not_see(many, capsys, monkeypatch):
    """The seed of the training decides which those are."""
    asked = []

    def load_data(name, seed=0, **options):
        asked.append((name, seed))
        return original(name, seed=seed, **options)

    original = command_line.load_data
    monkeypatch.setattr(command_line, "load_data", load_data)
    monkeypatch.chdir(many[0].parent)
    assert main(["evaluate", str(many[1]), "--data", "many"]) == 0
    assert main(["evaluate", str(many[1])]) == 0  # it remembers what it was trained on
    assert asked == [("many", 3)] * 2


def test_evaluate_where_the_pictures_are_not(many, run, photos, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = refused(capsys, "evaluate", many[1])
    assert "many" in said and "--data" in said
    assert "nothing to ask" in refused(capsys, "evaluate", run[0], "--data", photos)  # three a class: none to spare


def test_search(run, capsys):
    """Any model can search the emoji, however badly."""
    assert main(["search", "a red thing", "--style", "noto", "--count", "4", "--checkpoint", str(run[0])]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 4 and all(len(row) == 3 for row in rows)
    assert len({char for char, _, _ in rows}) == 4 and all(char and not char.isascii() for char, _, _ in rows)
    scores = [float(score) for _, score, _ in rows]
    assert scores == sorted(scores, reverse=True) and -1 <= scores[-1] <= scores[0] <= 1


@pytest.mark.slow
def test_shapes_and_emoji_from_start_to_end(tmp_path, capsys):
    for data, exams in (("shapes", 2), ("emoji", 2)):
        out = str(tmp_path / data)
        assert (
            main(["train", "--data", data, "--steps", "2", "--batch", "16", "--model", "resnet-tiny", "--out", out])
            == 0
        )
        assert "step 2: " in capsys.readouterr().out
        assert main(["evaluate", out, "--json"]) == 0
        results = json.loads(capsys.readouterr().out)
        assert len(results) >= exams and all(row["n"] > 50 for row in results)
        assert ("nearest_pixels_top1" in results[0]) == (data == "emoji")
