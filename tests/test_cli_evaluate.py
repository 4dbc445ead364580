"""The command `evaluate`: which pictures it asks about, and what it says where they are others than in training."""

import json
import shlex
import shutil

import pytest
from commands import command, draw, refused

import miniclip
from miniclip import data as data_door
from miniclip.training import fingerprint

SHORT = "--preset", "shapes", "--steps"


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Enough pictures of two classes for some to be kept from training, and a model of them, with seed 3."""
    folder = tmp_path_factory.mktemp("user") / "many"
    for colour in ("red", "dark-blue"):
        (folder / colour).mkdir(parents=True)
        for i in range(10):
            draw(folder / colour / f"{i}.png", colour.replace("-", ""), i)
    out = folder.parent / "run"
    options = "--seed", 3, "--batch-size", 2, "--evaluate-every", 4
    assert command("train", "--data", folder, "--out", out, *SHORT, 5, *options) == 0
    return folder, out


@pytest.fixture
def remembering(many, tmp_path):
    """remembering(data=…, fingerprint=…): the same model, whose `about` says just this of its data."""

    def remembering(**said):
        clip = miniclip.load(many[1])
        clip.about = {"config": clip.about["config"]} | said
        miniclip.save(clip, tmp_path / "model.safetensors")
        return tmp_path / "model.safetensors"

    return remembering


@pytest.fixture
def its_fingerprint(many):
    return fingerprint(data_door.load_data(many[0], seed=3)[0])


def test_evaluate(many, capsys):
    folder, out = many
    assert command("evaluate", out, "--data", folder) == 0
    text = capsys.readouterr().out
    assert "top-1" in text and "chance" in text and "validation classes" in text
    assert command("evaluate", out, "--data", folder, "--json") == 0
    printed = capsys.readouterr()
    (row,) = json.loads(printed.out)
    assert row["n"] == 2 and row["choices"] == 2 and row["chance"] == 0.5 and printed.err == ""
    assert 0 <= row["top1"] <= row["top5"] == row["ensemble_top5"] == 1
    lines = (out / "log.jsonl").read_text().splitlines()
    log = [json.loads(line) for line in lines if "eval/" in line]
    assert [line["step"] for line in log] == [4, 5]
    assert log[-1]["eval/validation classes/ensemble_top1"] == row["ensemble_top1"]


def test_it_asks_about_pictures_that_training_did_not_see(many, monkeypatch, capsys):
    """The seed of the training decides which those are; it remembers what it was trained on, wherever one is."""
    asked = []

    def load_data(name, *size, seed=0, original=data_door.load_data, **options):
        asked.append((name, seed))
        return original(name, *size, seed=seed, **options)

    monkeypatch.setattr(data_door, "load_data", load_data)
    monkeypatch.chdir(many[0].parent)
    assert command("evaluate", many[1], "--data", "many") == 0
    monkeypatch.chdir("/")
    assert command("evaluate", many[1]) == 0
    assert asked == [("many", 3), (str(many[0].resolve()), 3)]
    assert capsys.readouterr().err == ""


def test_other_pictures_of_the_same_folder_name(many, tmp_path, capsys, monkeypatch):
    """Run beside another folder `many`, it takes its own."""
    (tmp_path / "many").mkdir()
    monkeypatch.chdir(tmp_path)
    assert command("evaluate", many[1]) == 0
    assert "validation classes" in capsys.readouterr().out


def test_pictures_that_changed_since_training(many, remembering, its_fingerprint, tmp_path, capsys):
    """Refused, with what to do; with --data it is said in one line. The right ones pass without a word."""
    folder = tmp_path / "it's many"
    shutil.copytree(many[0], folder)
    model = remembering(data=str(folder), fingerprint=its_fingerprint)
    assert command("evaluate", model) == 0 and capsys.readouterr().err == ""
    for i in range(10, 30):
        draw(folder / "red" / f"{i}.png", "red", 3, size=(40 + i, 36))
    said = refused(capsys, "evaluate", model)
    assert "does not hold the pictures" in said and "say --data" in said
    words = shlex.split(said.split("say ")[1].split(" to evaluate")[0])
    assert words == ["--data", str(folder)]
    with pytest.warns(UserWarning, match="these are not the pictures it was trained on") as warned:
        assert command("evaluate", model, *words) == 0
    assert len(warned) == 1 and str(folder) in str(warned[0].message)
    capsys.readouterr()
    model = remembering(data=str(many[0]), fingerprint=its_fingerprint)
    with pytest.warns(UserWarning, match="these are not the pictures it was trained on") as warned:
        assert command("evaluate", model, "--data", folder) == 0
    assert str(many[0]) in str(warned[0].message)


def test_models_of_before_that_remember_a_name_alone(many, remembering, capsys, monkeypatch):
    model = remembering(data="many")
    monkeypatch.chdir(many[0].parent)
    with pytest.warns(UserWarning, match=f"remembers no more than 'many': taking {many[0].resolve()}") as warned:
        assert command("evaluate", model) == 0
    assert len(warned) == 1
    assert command("evaluate", model, "--data", many[0]) == 0
    capsys.readouterr()
    monkeypatch.chdir("/")
    said = refused(capsys, "evaluate", model)
    assert "'many'" in said and "--data" in said


@pytest.mark.parametrize("about", [{"data": ["many"]}, {"data": 5, "config": "none"}, {"data": "x" * 5000}])
def test_notes_that_make_no_sense(about, remembering, capsys):
    assert "which is not here; say with --data where it is" in refused(capsys, "evaluate", remembering(**about))


def test_too_few_pictures_to_ask_about(trained, photos, capsys):
    assert "nothing to ask" in refused(capsys, "evaluate", trained[0], "--data", photos)  # three a class


def test_pictures_are_read_at_the_size_of_a_large_model(many, monkeypatch, capsys):
    """A model for 96 pixels is not asked about thumbnails of 64."""
    sizes = []

    def load_data(name, size, original=data_door.load_data, **options):
        sizes.append(size)
        return original(name, size, **options)

    monkeypatch.setattr(data_door, "load_data", load_data)
    assert command("evaluate", many[1], "--image-size", 96) == command("evaluate", many[1]) == 0
    assert sizes == [96, None] and capsys.readouterr().err == ""


def test_the_hint_at_the_end_of_training_works_from_anywhere(many, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command("train", "--data", many[0], "--out=-it's my run", *SHORT, 1, "--batch-size", 2) == 0
    hint = capsys.readouterr().out.split("try\n")[1].splitlines()[0]
    monkeypatch.chdir("/")
    python, flag, name, *words = shlex.split(hint)
    assert [python, flag, name] == ["python", "-m", "miniclip"] and command(*words) == 0
    assert "validation classes" in capsys.readouterr().out


@pytest.mark.slow
def test_the_hint_with_a_style_held_out(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train = "train --steps 1 --batch-size 16 --model resnet-micro --hold-out noto-line --out run"
    assert command(*train.split()) == 0
    hint = capsys.readouterr().out.split("try\n")[1].splitlines()[0]
    monkeypatch.chdir("/")
    assert command(*shlex.split(hint)[3:]) == 0
    printed = capsys.readouterr()
    assert "unseen artist" in printed.out and printed.err == ""
    with pytest.warns(UserWarning, match="these are not the pictures it was trained on"):
        assert command("evaluate", tmp_path / "run") == 0
