"""The command line, from pictures to answers. What it refuses is in test_cli_refused.py."""

import csv
import io
import json
import math
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import COLOURS, command, python, refused, sentence
from PIL import Image

import miniclip
from miniclip.cli import main, parser
from miniclip.training import PRESETS

COMMANDS = ["train", "evaluate", "search", "classify", "calibrate", "index", "gradcheck"]
SHORT = "--preset", "shapes", "--steps"


# ------------------------------------------------------------------------------------------ help


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example(name, capsys):
    with pytest.raises(SystemExit) as exit:
        main([name, "--help"])
    text = capsys.readouterr().out
    assert exit.value.code == 0
    example = text.split(f"example: python -m miniclip {name} ")[1].splitlines()[0]
    assert parser().parse_args([name, *shlex.split(example)]).run  # and it is one that can be given


def test_help_names_the_commands_and_what_train_takes(capsys):
    done = python("--help")
    assert done.returncode == 0 and all(name in done.stdout for name in COMMANDS)
    assert done.stderr == ""
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = capsys.readouterr().out
    flags = "--data --model --preset --out --resume --seed --threads --device --batch-size --micro-batch --profile"
    assert all(flag in text for flag in flags.split()) and all(name in text for name in PRESETS)


@pytest.mark.parametrize(
    "words",
    [
        "",
        "paint",
        "train --preset fast",
        "train --model resnet-50",
        "train --device tpu",
        "train --steps many",
        "train --speed 3",
        "search --style",
        "search a --head-width wide",
        "classify a.png",
        "classify --labels a,b",
    ],
)
def test_what_argparse_refuses(words, capsys):
    with pytest.raises(SystemExit) as exit:
        main(words.split())
    assert exit.value.code == 2
    assert "usage: python -m miniclip" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], *([name] for name in COMMANDS)])
def test_help_waits_for_no_library(words):
    """Nor does `import miniclip`; what is imported later is in reach all the same."""
    code = (
        "import sys\n"
        "heavy = ['numpy', 'PIL', 'tqdm', 'threadpoolctl', 'ftfy', 'regex', 'matplotlib', 'filelock']\n"
        "sys.modules |= dict.fromkeys(heavy)\n"
        "import miniclip.cli\n"
        f"miniclip.cli.main({words + ['--help']})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "usage: python -m miniclip" in done.stdout, done.stderr


def test_what_is_imported_when_it_is_first_used():
    """From a fresh process; dir() knows it before, and a name that is not there is no surprise."""
    code = (
        "import miniclip\n"
        "names = {'load', 'save', 'clip_loss', 'siglip_loss', 'CLIP', 'encode_image', 'encode_text'}\n"
        "assert names <= set(dir(miniclip)) and not names & set(vars(miniclip))\n"
        "assert all(callable(getattr(miniclip, name)) for name in names) and names <= set(vars(miniclip))\n"
        "from miniclip import *\n"
        "assert load is miniclip.load and not hasattr(miniclip, 'lood')"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_the_former_names_of_two_flags():
    """--batch and --shard, of scripts that were written before."""
    for flags in ("--batch-size 6 --micro-batch 3", "--batch 6 --shard 3"):
        options = parser().parse_args(["train", *flags.split()])
        assert (options.batch_size, options.micro_batch) == (6, 3)


# ------------------------------------------------------------------------------------------ train


def test_training_on_ones_own_pictures(trained, photos):
    out, done = trained
    assert "18 pictures of 6 things" in done.stdout and "using 6" in done.stdout
    assert f"Saved {out}/model.safetensors" in done.stdout and "the rest" not in done.stdout
    assert {path.name for path in out.glob("[!.]*")} == {"last.safetensors", "model.safetensors", "log.jsonl"}
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [10, 12]
    assert all(math.isfinite(row["loss"]) for row in rows if "loss" in row)
    clip = miniclip.load(out)
    assert clip.about["step"] == 12 and clip.about["config"]["batch_size"] == 6
    assert clip.classify([Image.open(photos / "red" / "0.png")], COLOURS).shape == (1, 6)


def test_what_a_process_prints_in_case_of_bad_input(photos, trained):
    done = python("train", "--data", photos, "--out", trained[0])
    assert done.returncode == 2 and "Saved" not in done.stdout
    sentence(done.stderr)


def test_the_same_command_gives_the_same_bits_and_a_profile(trained, photos, tmp_path, capsys):
    """On another number of threads, and watched; resumed, there is nothing left to do."""
    words = "train", "--data", photos, "--out", tmp_path / "out", *SHORT, 12
    assert command(*words, "--threads", 1, "--profile") == 0
    text = capsys.readouterr().out
    for phase in ("reading the data", "input", "forward and backward", "AdamW", "log", "the rest", "together"):
        assert re.search(rf"^{phase} +\d+\.\d\d s +\d+\.\d%$", text, re.M), phase
    expected = (trained[0] / "model.safetensors").read_bytes()
    assert (tmp_path / "out/model.safetensors").read_bytes() == expected
    assert command(*words, "--resume") == 0
    assert (tmp_path / "out/model.safetensors").read_bytes() == expected


def test_a_setting_that_halves_the_speed_is_named(capsys, monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert command("train", "--data", "nowhere") == 2
    assert "OPENBLAS_CORETYPE=Haswell is set" in capsys.readouterr().out


def test_flags_reach_the_configuration(photos, tmp_path):
    flags = "--batch 4", "--shard 2", "--recompute", "--learning-rate 1e-4", "--seed 5", "--model vit-tiny"
    words = [word for flag in flags for word in flag.split()]
    assert command("train", "--data", photos, "--out", tmp_path / "out", *SHORT, 1, *words) == 0
    config = miniclip.load(tmp_path / "out").about["config"]
    names = "batch_size", "micro_batch", "recompute", "learning_rate", "seed", "model", "steps"
    assert [config[name] for name in names] == [4, 2, True, 1e-4, 5, "vit-tiny", 1]
    assert config["weight_decay"] == PRESETS["shapes"].weight_decay


# ------------------------------------------------------------------------------------------ classify


def answers(capsys, *pictures, labels=COLOURS, options=()):
    """What classify prints, {picture: its lines}."""
    assert command("classify", *pictures, "--labels", ",".join(labels), *options) == 0
    lines, found = capsys.readouterr().out.splitlines(), {}
    for line in lines:
        if not line.startswith(" "):
            found[line] = rows = []
        else:
            rows.append(line)
    return found


def test_classify(trained, photos, capsys):
    pictures = [str(photos / "red" / "0.png"), str(photos / "blue" / "1.png")]
    model = "--checkpoint", trained[0]
    found = answers(capsys, *pictures, labels=["red", " green ", "blue", ""], options=model)
    assert list(found) == pictures
    for lines in found.values():
        chances = [float(line.split("%")[0]) for line in lines]
        assert {line.split("%")[1].strip() for line in lines} == {"red", "green", "blue"}
        assert chances == sorted(chances, reverse=True) and sum(chances) == pytest.approx(100, abs=0.03)
    model = "--checkpoint", trained[0] / "model.safetensors", "--template", "a {} thing", "--template", "{}"
    (lines,) = answers(capsys, pictures[0], options=(*model, "--count", 2)).values()
    assert len(lines) == 2


def test_classify_takes_any_picture(trained, photos, tmp_path, capsys):
    """Of any mode, proportion and format; transparent pixels are white, and EXIF says which way is up."""
    red, exif = Image.open(photos / "red" / "0.png"), Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    clear = np.array(red.convert("RGBA"))
    clear[(clear == 255).all(-1)] = 0
    red.save(tmp_path / "photo.jpg")
    red.convert("L").save(tmp_path / "grey.png")
    red.convert("P").save(tmp_path / "palette.gif")
    red.resize((300, 3)).save(tmp_path / "wide.png")
    red.save(tmp_path / "plain.png")
    Image.fromarray(clear).save(tmp_path / "clear.png")
    red.save(tmp_path / "turned.png", exif=exif)
    red.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "upright.png")
    pictures = [str(path) for path in tmp_path.iterdir()]
    found = answers(capsys, *pictures, options=("--checkpoint", trained[0], "--count", 6))
    assert list(found) == pictures and all(len(lines) == 6 for lines in found.values())
    for one, other in (("clear", "plain"), ("turned", "upright")):
        assert found[str(tmp_path / f"{one}.png")] == found[str(tmp_path / f"{other}.png")]


def test_classify_answers_for_the_pictures_that_can_be_read(trained, photos, tmp_path, capsys, monkeypatch):
    """Files, a folder, a pattern, ~ and standard input; one that is broken is named at the end, with status 2."""
    model = "--checkpoint", trained[0], "--labels", 'red,"salt, pepper",red'
    folder, out = photos / "red", capsys.readouterr
    for words in ([folder], [folder / "*.png"], ["~/*.png"]):
        monkeypatch.setenv("HOME", str(folder))
        assert command("classify", *words, *model, "--json") == 0
        printed = out()
        found = json.loads(printed.out)
        assert [Path(row["picture"]).name for row in found] == sorted(path.name for path in folder.glob("*.png"))
        assert all(row["labels"].keys() == {"red", "salt, pepper"} for row in found)
        assert "the same" in printed.err
    (tmp_path / "broken.png").write_text("no picture")
    assert command("classify", tmp_path / "broken.png", folder / "0.png", *model, "--csv") == 2
    printed = out()
    rows = list(csv.DictReader(io.StringIO(printed.out)))
    assert [row["picture"] for row in rows] == [str(folder / "0.png")] * 2
    assert sum(float(row["probability"]) for row in rows) == pytest.approx(1, abs=1e-4)
    assert {row["label"] for row in rows} == {"red", "salt, pepper"}
    assert "broken.png is no picture that can be read" in printed.err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((folder / "0.png").read_bytes())))
    assert command("classify", "-", *model) == 0 and out().out.startswith("-\n")
    assert "there is no picture in" in refused(capsys, "classify", tmp_path / "*.jpg", *model[:3], "a,b")


# ------------------------------------------------------------------------------------------ terminals


def test_a_terminal_without_the_letters(photos, trained, tmp_path):
    """What it cannot write is replaced, and the command does what it should."""
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    words = ["classify", photos / "red" / "0.png", "--labels", "röt,τ", "--checkpoint", trained[0]]
    for arguments in (words, ["gradcheck", "--layer", "conv2d (1 × 1)"]):
        run = [sys.executable, "-m", "miniclip", *map(str, arguments)]
        ended = subprocess.run(run, capture_output=True, env=environment, timeout=120)
        assert ended.returncode == 0 and b"?" in ended.stdout and not ended.stderr, ended.stderr


def test_a_reader_that_has_read_enough():
    run = [sys.executable, "-m", "miniclip", "gradcheck", "--layer", "l*"]
    with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode in (0, 141) and not errors


# ------------------------------------------------------------------------------------------ all of it


@pytest.mark.slow
@pytest.mark.parametrize("data", ["shapes", "emoji"])
def test_shapes_and_emoji_from_start_to_end(tmp_path, capsys, data):
    options = "--data", data, "--steps", 2, "--batch-size", 16, "--model", "resnet-tiny", "--out", tmp_path / "out"
    assert command("train", *options) == 0
    assert "step 2: " in capsys.readouterr().out
    assert command("evaluate", tmp_path / "out", "--json") == 0
    results = json.loads(capsys.readouterr().out)
    assert len(results) >= 2 and all(row["n"] > 50 for row in results)
    assert ("nearest_pixels_top1" in results[0]) == (data == "emoji")
