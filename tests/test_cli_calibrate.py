"""The command `calibrate`, and "none of these" among the answers of `classify`."""

import csv
import io
import json

import numpy as np
import pytest
from commands import command, refused
from PIL import Image
from safetensors.numpy import load_file, save_file

import miniclip
from miniclip import data as data_door
from miniclip.commands.calibrate import EXAMS
from miniclip.data import Evaluation, PictureSet, emoji_names, emoji_pictures
from miniclip.data.emoji import read_catalogue
from miniclip.evaluation import NONE, calibrated
from miniclip.training import fingerprint
from miniclip.tree import flatten

PICTURES = 60
LABELS = "red apple,automobile,star,soccer ball,grinning face"


@pytest.fixture
def few(monkeypatch):
    """Of the emoji, a few that the model that ships has not seen, and a training set of them with their names."""
    pictures, codes = emoji_pictures("openclipart", 64)
    name_of = {entry["code"]: entry["name"] for entry in emoji_names() if entry["char"]}
    rows = [row for row, code in enumerate(codes) if code in name_of][:PICTURES]
    names = list(dict.fromkeys(name_of[codes[row]] for row in rows))
    answer = np.array([names.index(name_of[codes[row]]) for row in rows])
    others = [name for name in dict.fromkeys(entry["name"] for entry in emoji_names()) if name not in names]
    training = PictureSet("emoji", pictures[rows], answer, [[name] for name in names + others[:30]], named=True)
    asked = []

    def load_data(source, size=None, seed=0, hold_out_style=None):
        asked.append((source, seed, hold_out_style))
        return training, [Evaluation("unseen artist", pictures[rows], answer, names)]

    monkeypatch.setattr(data_door, "load_data", load_data)
    monkeypatch.setattr("miniclip.commands.calibrate.BLANKS", 40)
    return asked, training


@pytest.fixture
def copy(tmp_path):
    """A copy of the model that ships, not calibrated."""
    path = tmp_path / "mine.safetensors"
    clip = miniclip.load("emoji")
    clip.about.pop("classify", None)
    miniclip.save(clip, path, half=True)
    return path


def numbers(path):
    """The bytes of a safetensors file behind its header."""
    content = path.read_bytes()
    return content[8 + int.from_bytes(content[:8], "little") :]


def test_calibrate_changes_what_it_says_and_nothing_else(few, copy, capsys):
    before, was = miniclip.load(copy), numbers(copy)
    assert command("calibrate", copy, "--style", "openclipart", "--test", "fluent", "--json") == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert few[0] == [("emoji", 0, "openclipart"), ("emoji", 0, "fluent")] and printed.err == ""
    after = miniclip.load(copy)
    fitted = after.about.pop("classify")
    assert numbers(copy) == was and after.about == before.about and after.config == before.config
    assert after.tokenizer.to_json() == before.tokenizer.to_json()
    assert all((flatten(after.params)[name] == leaf).all() for name, leaf in flatten(before.params).items())
    assert found["classify"] == fitted and found["checkpoint"] == str(copy)
    assert 2 < fitted["scale"] < 60 and -1 < fitted["none"] < 1 and len(fitted["nothing"]["weight"]) == 256
    count = len(few[1].captions)
    assert fitted["fitted_on"] == {"data": "openclipart", "pictures": PICTURES, "names": count}
    rows = found["asked"]["openclipart"]
    assert [row["names"] for row in rows] == [5, 30] and set(found["asked"]) == {
        "openclipart",
        "fluent (not fitted to)",
    }
    assert all(0 <= row[kind] <= 1 for row in rows for kind in ("ece", "named_ece", "accuracy", "named_accuracy"))


def test_it_can_be_written_elsewhere_and_be_fitted_with_another_model(few, copy, tmp_path, capsys):
    was, out = copy.read_bytes(), tmp_path / "out.safetensors"
    assert command("calibrate", copy, "--style", "openclipart", "--out", out, "--with", "emoji") == 0
    text = capsys.readouterr().out
    trained = np.exp(miniclip.load("emoji").params["logit_scale"])
    assert f"(trained: {trained:.2f})" in text and f"Written to {out}" in text
    assert [line.split()[1] for line in text.splitlines() if line.startswith("openclipart")] == ["5", "30"]
    assert copy.read_bytes() == was and calibrated(miniclip.load(copy)) is None
    assert calibrated(miniclip.load(out))["fitted_on"]["with"] == "emoji"


def test_of_a_twin_the_factor_of_its_learned_scale_is_taken(few, copy, tmp_path, capsys):
    """A twin with the same embeddings, whose learned scale is half as large: the scale that fits it, times two."""
    twin = miniclip.load(copy)
    twin.params["logit_scale"] -= np.float32(np.log(2))
    miniclip.save(twin, tmp_path / "twin.safetensors")

    def fitted(*words):
        assert command("calibrate", copy, "--style", "openclipart", "--json", *words) == 0
        return json.loads(capsys.readouterr().out)["classify"]

    alone, with_twin = fitted(), fitted("--with", tmp_path / "twin.safetensors")
    assert with_twin["scale"] == pytest.approx(2 * alone["scale"], rel=1e-3)
    assert with_twin["none"] == pytest.approx(alone["none"], abs=1e-3)


def test_a_scale_that_is_given_is_kept_and_the_rest_is_fitted_to_it(few, copy, capsys):
    """At a larger scale, what is not named may be less like the picture: the cosine of none of these is another."""
    found = []
    for scale in (10, 40):
        assert command("calibrate", copy, "--style", "openclipart", "--json", "--scale", scale) == 0
        found.append(json.loads(capsys.readouterr().out)["classify"])
    assert [fitted["scale"] for fitted in found] == [10, 40] and calibrated(miniclip.load(copy))["scale"] == 40
    assert abs(found[0]["none"] - found[1]["none"]) > 0.02


def test_one_is_told_where_it_may_have_seen_the_pictures(few, copy):
    clip = miniclip.load(copy)
    clip.about["fingerprint"] = "another"
    miniclip.save(clip, copy)
    with pytest.warns(UserWarning, match="it may have seen some of them"):
        assert command("calibrate", copy, "--style", "openclipart", "--json") == 0
    clip.about["fingerprint"] = fingerprint(few[1])
    miniclip.save(clip, copy)
    assert command("calibrate", copy, "--style", "openclipart", "--json") == 0  # in silence


@pytest.fixture
def sure(copy):
    """The same model, calibrated by hand."""
    clip = miniclip.load(copy)
    clip.about["classify"] = {"scale": 20.0, "none": 0.35}
    miniclip.save(clip, copy)
    return copy


@pytest.fixture
def two(tmp_path):
    """An apple, and a pattern that no name fits: their files."""
    pictures, codes = emoji_pictures("noto")
    paths = [tmp_path / "apple.png", tmp_path / "nothing.png"]
    Image.fromarray(pictures[codes.index("1f34e")]).save(paths[0])
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(paths[1])
    return paths


def test_classify_says_when_none_fits(sure, two, capsys):
    words = "classify", *two, "--labels", LABELS, "--checkpoint", sure
    assert command(*words, "--count", 9) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [lines[0], lines[7]] == list(map(str, two)) and len(lines) == 14
    assert lines[1].endswith("%  red apple") and lines[8].endswith(f"%  {NONE}")
    assert command(*words, "--count", 9, "--json") == 0
    apple, nothing = (answer["labels"] for answer in json.loads(capsys.readouterr().out))
    assert apple["red apple"] > 0.8 and apple[NONE] < 0.2 and nothing[NONE] > 0.3
    for chances in (apple, nothing):
        assert set(chances) == {*LABELS.split(","), NONE} and sum(chances.values()) == pytest.approx(1, abs=1e-5)
    assert command(*words, "--count", 1, "--csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["label"] for row in rows] == ["red apple", NONE]
    assert NONE in refused(capsys, *words[:-3], f"a,b,{NONE}", *words[-2:])


def test_a_model_that_was_not_calibrated_shares_all_among_the_names(copy, two, capsys):
    words = "--checkpoint", copy, "--json", "--count", 9
    assert command("classify", *two, "--labels", f"{LABELS},{NONE}", *words) == 0
    for answer in json.loads(capsys.readouterr().out):
        assert list(answer["labels"]).count(NONE) == 1 and len(answer["labels"]) == 6
    assert command("classify", *two, "--labels", LABELS, *words) == 0
    assert all(NONE not in answer["labels"] for answer in json.loads(capsys.readouterr().out))


def test_a_calibration_that_is_damaged_is_refused(copy, two, capsys):
    clip = miniclip.load(copy)
    clip.about["classify"] = {"scale": "large"}
    miniclip.save(clip, copy)
    assert "calibrate it again" in refused(capsys, "classify", two[0], "--labels", "a,b", "--checkpoint", copy)


def test_what_cannot_be_calibrated(few, copy, tmp_path, capsys, monkeypatch):
    def sentence(*arguments):
        return refused(capsys, "calibrate", *arguments)

    was = copy.read_bytes()
    assert "--style" in sentence(copy)
    for exam in EXAMS:
        assert f"the style {exam} is an exam" in sentence(copy, "--style", exam)
    assert "--out" in sentence("emoji", "--style", "openclipart")
    for scale in ("0", "-3", "nan", "inf"):
        assert f"--scale is {float(scale)}" in sentence(copy, "--style", "openclipart", f"--scale={scale}")
    assert not few[0]  # nothing was read until here
    assert "there is no" in sentence(tmp_path / "nowhere.safetensors", "--style", "openclipart")
    monkeypatch.setattr(data_door, "load_data", lambda *_, **__: (few[1], []))
    miniclip.save(miniclip.load(copy), tmp_path / "theirs", layout="open_clip")
    weights = tmp_path / "theirs" / "open_clip_model.safetensors"
    save_file(load_file(weights), weights)  # as open_clip writes it
    assert "not a file that miniclip saved" in sentence(tmp_path / "theirs", "--style", "openclipart")
    assert "too few pictures" in sentence(copy, "--data", "photos")
    monkeypatch.undo()
    assert "is an emoji style" in sentence(copy, "--data", tmp_path, "--style", "noto")
    assert "no emoji style" in sentence(copy, "--style", "crayon")
    assert copy.read_bytes() == was


def test_the_exams_are_those_of_the_catalogue():
    assert set(EXAMS) == {name for name, style in read_catalogue()["styles"].items() if "exam" in style}
