"""A user's own pictures: both layouts, what is kept from training, and one clear sentence for all that can be wrong."""

import shutil
import warnings

import numpy as np
import pytest
from picture_files import captioned, save
from PIL import Image

from miniclip.data import folder_data, load, load_data
from miniclip.data.pictures import read_picture


@pytest.fixture
def classes(tmp_path):
    for k, name in enumerate(["tabby_cat", "house-sparrow", "oak"]):
        for i in range(10):
            save(tmp_path / name / f"{i}.png", (100 * k, 10 * i, 0))
    return tmp_path


def test_captions_in_the_layout_of_flickr8k(tmp_path):
    rows = [f'Images/{k}.png,"A dog, number {k}"' for k in range(40)] + [f"Images/{k}.png,dog {k}" for k in range(40)]
    captioned(tmp_path, rows)
    (tmp_path / "captions.csv").write_text((tmp_path / "captions.csv").read_text().replace("Images/", ""))
    training, [exam] = folder_data(tmp_path, 16, seed=1)
    assert training.name == tmp_path.name and training.pictures.shape[1:] == (16, 16, 4)
    assert len(training) + len(exam) == 40 and 2 <= len(exam) <= 10
    assert all(len(texts) == 2 for texts in training.captions)
    assert not set(exam.names) & {text for texts in training.captions for text in texts}
    shown = [*zip(training.pictures, (training.captions[k][0] for k in training.concept))]
    for picture, text in [*shown, *zip(exam.pictures, (exam.names[k] for k in exam.answer))]:
        file = tmp_path / "Images" / f"{text.removeprefix('A dog, number ')}.png"
        assert (picture == read_picture(file, 16)[0]).all()


def test_the_split_depends_on_the_seed(tmp_path):
    captioned(tmp_path, [f"{k}.png,thing {k}" for k in range(60)])
    names = [folder_data(tmp_path, 8, seed)[1][0].names for seed in (0, 0, 1)]
    assert names[0] == names[1] != names[2]
    assert folder_data(tmp_path, 16)[1][0].names == names[0]  # and on no size
    training, exams = folder_data(tmp_path, 8, validation=0)
    assert len(training) == 60 and exams == []


def test_classes_are_named_by_their_folders(classes):
    (classes / ".cache").mkdir()
    training, [exam] = folder_data(classes, 8)
    assert exam.names == ["house sparrow", "oak", "tabby cat"] and [t[0] for t in training.captions] == exam.names
    assert training.captions[2] == ["tabby cat"] and "a photo of a {}" in training.templates and training.named
    assert len(training) + len(exam) == 30 and len(exam) > 0
    red = {"tabby cat": 0, "house sparrow": 100, "oak": 200}
    assert all(picture[4, 4, 0] == red[exam.names[k]] for picture, k in zip(training.pictures, training.concept))
    assert all(picture[4, 4, 0] == red[exam.names[k]] for picture, k in zip(exam.pictures, exam.answer))
    together = np.concatenate([training.pictures, exam.pictures]).reshape(30, -1)
    assert len(np.unique(together, axis=0)) == 30


def test_a_class_that_is_all_kept_from_training_is_not_asked_about(classes):
    save(classes / "fern" / "only.png")
    found = []
    for seed in range(20):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            training, [exam] = folder_data(classes, 8, seed, validation=0.5)
        learned = [texts[0] for texts in training.captions]
        assert exam.names == learned and (np.bincount(training.concept) > 0).all()
        assert ("fern" in learned) != any("all pictures of 'fern' are kept" in str(w.message) for w in said)
        found.append("fern" in learned)
    assert len(set(found)) == 2


def test_a_choice_of_one_is_no_exam(tmp_path):
    captioned(tmp_path, [f"{k}.png,thing {k}" for k in range(4)])
    sizes = set()
    for seed in range(30):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                training, exams = folder_data(tmp_path, 8, seed, validation=0.3)
            except ValueError as error:
                assert "leaves less than two things to compare, as" in str(error)
                continue
        sizes.add(len(training))
        assert len(exams) == (len(training) == 2)
        assert bool(said) == (len(training) == 3) == any("a choice of one" in str(w.message) for w in said)
    assert sizes == {2, 3, 4}


# ------------------------------------------------------------------------------------------ no leaks


def pictures_of(folder, seed):
    """The contents of the pictures on each side: (to train on, kept)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        training, exams = folder_data(folder, 12, seed)
    kept = exams[0].pictures if exams else training.pictures[:0]
    return [{picture.tobytes() for picture in pictures} for pictures in (training.pictures, kept)]


@pytest.mark.parametrize("layout", ["classes", "captions"])
def test_no_picture_ever_changes_sides(tmp_path, layout):
    """Files are added, removed, renamed, copied, saved in another format and given other captions: 200 changes."""
    rng, number = np.random.default_rng(1), iter(range(10_000))
    folder, trained, kept = tmp_path / "data", set(), set()

    def add(place):
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8)).save(place / f"{rng.random()}-{next(number)}.png")

    for k in range(45):
        add(folder / "abc"[k % 3])
    for _ in range(100):
        files = sorted(folder.rglob("*.*"))
        files = [f for f in files if f.suffix != ".csv"]
        file = files[rng.integers(len(files))]
        kind = rng.integers(5)
        other = file.parent.parent / "abc"[rng.integers(3)] / f"{rng.random()}-{next(number)}{file.suffix}"
        if kind == 0:
            add(file.parent)
        elif kind == 1 and len(files) > 40:
            file.unlink()
        elif kind == 2:
            file.rename(other)
        elif kind == 3:
            shutil.copy(file, other)
        else:
            Image.open(file).save(file.with_suffix(".bmp" if file.suffix == ".png" else ".png"))
            file.unlink()
        if layout == "captions":
            files = [f for f in sorted(folder.rglob("*.*")) if f.suffix != ".csv"]
            rows = [f"{f.relative_to(folder)},text {rng.integers(100)}" for f in rng.permutation(files)]
            (folder / "captions.csv").write_text("\n".join(["image,caption", *rows]))
        now_trained, now_kept = pictures_of(folder, seed=5)
        trained, kept = trained | now_trained, kept | now_kept
        assert not trained & kept
    assert len(trained) > 45 and len(kept) > 4


def test_copies_are_one_thing(tmp_path):
    captioned(tmp_path, [f"{k}.png,thing {k}" for k in range(9)])
    shutil.copy(tmp_path / "3.png", tmp_path / "copy.png")
    with open(tmp_path / "captions.csv", "a") as table:
        table.write("copy.png,another word\n")
    training, _ = folder_data(tmp_path, 8, validation=0)
    assert training.concept.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 3]
    assert training.captions[3] == ["thing 3", "another word"]


def test_pictures_in_two_classes_are_counted(classes):
    shutil.copy(classes / "oak" / "0.png", classes / "tabby_cat" / "x.png")
    with pytest.warns(UserWarning, match="pictures that stand in more than one class: 1"):
        folder_data(classes, 8)


# ------------------------------------------------------------------------------------------ what is passed over


def test_what_is_passed_over_is_counted(classes):
    (classes / "oak" / "notes.txt").write_text("not a picture")
    for k in range(3):
        (classes / "oak" / f"{k}.HEIC").write_bytes(b"new")
        save(classes / "oak" / "more" / "deep" / f"{k}.png")
    save(classes / "beside.png")
    (classes / "__MACOSX").mkdir()
    (classes / "oak" / "._0.png").write_bytes(b"a Mac's")
    with pytest.warns(UserWarning) as said:
        training, [exam] = folder_data(classes, 8)
    assert len(training) + len(exam) == 30
    said = {str(w.message).removeprefix(f"{classes}: ") for w in said}
    assert said == {
        "pictures in folders below oak, which were passed over: 3",
        "pictures beside the folders of the classes, which were passed over: 1",
        "files that Pillow does not read as pictures, which were passed over: 3 .heic, 1 .txt",
    }


def test_pictures_without_a_caption_are_counted(tmp_path):
    captioned(tmp_path, [f"{k}.png,thing {k}" for k in range(9)])
    save(tmp_path / "more.png")
    for name in ("a.heic", "b.HEIC", "README.md", ".DS_Store"):
        (tmp_path / name).write_bytes(b"new")
    with pytest.warns(UserWarning) as said:
        folder_data(tmp_path, 8, validation=0)
    assert [str(w.message).removeprefix(f"{tmp_path}: ") for w in said] == [
        "pictures without a caption, which were passed over: 1",
        "files that Pillow does not read as pictures, which were passed over: 2 .heic",
    ]


@pytest.mark.parametrize(
    "files, given, message",
    [
        (["train/cat/1.png", "train/dog/1.png", "val/cat/1.png"], ".", r"looks like a data set in parts, train, val; "
         r"give .*train$"),
        (["Test/1.png", "training/1.png"], ".", r"in parts, Test, training; give .*training$"),
        (["photos/cat/1.png", "photos/dog/1.png"], ".", r"looks like a folder around the pictures; give .*photos$"),
        (["flickr/Images/1.png", "flickr/captions.txt"], ".", r"a folder around the pictures; give .*flickr$"),
        (["Images/1.png", "captions.txt"], "Images", r"Images looks like the pictures of captions.txt; give .*, where"),
        (["cat/1.png", "dog/1.png"], "cat", r"cat looks like the pictures of one class, .*; give .*, which holds"),
        (["cat/1.heic", "dog/1.png"], ".", r"cat holds no pictures that can be read \(\.heic\)"),
        (["cat/a/1.png", "dog/1.png"], ".", r"cat holds no pictures, but 1 in folders below it"),
    ],
)  # fmt: skip
def test_what_was_meant_is_recognised(tmp_path, files, given, message):
    for name in files:
        save((tmp_path / "data" / name).with_suffix(".png"))
        if not name.endswith("png"):
            (tmp_path / "data" / name).with_suffix(".png").unlink()
            (tmp_path / "data" / name).write_text("image,caption\n1.png,a thing\n")
    with pytest.raises(ValueError, match=message):
        folder_data(tmp_path / "data" / given, 8)


def test_bad_folders_are_named(tmp_path, classes):
    for bad, full, empty, message in [
        ("bare", [], [], "bare holds neither captions.csv nor"),
        ("one", ["a"], [], "one class only, 'a'"),
        ("hollow", ["a"], ["b"], "b holds no pictures"),
        ("same", ["a_b", "a-b"], [], "both be the class 'a b'"),
        ("cats", ["Cat", "cat"], [], "Cat and .*cat would both be the class 'cat'; rename one"),
        ("cafes", ["caf\u00e9", "cafe\u0301"], [], "would both be the class"),
        ("dashes", ["a", "--"], [], "-- names no class"),
    ]:
        (tmp_path / "other" / bad).mkdir(parents=True)
        for name in full:
            save(tmp_path / "other" / bad / name / "x.png")
        for name in empty:
            (tmp_path / "other" / bad / name).mkdir()
        with pytest.raises(ValueError, match=message):
            folder_data(tmp_path / "other" / bad, 8)
    with pytest.raises(FileNotFoundError, match="nowhere: there is no such folder"):
        folder_data(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="is a file"):
        folder_data(classes / "oak" / "0.png")
    with pytest.raises(ValueError, match="validation is 1"):
        folder_data(classes, 8, validation=1)


def test_load_data_knows_its_sources(classes, monkeypatch):
    training, exams = load_data(str(classes), size=8)
    assert training.pictures.shape[1:] == (8, 8, 4) and len(training) + len(exams[0]) == 30
    monkeypatch.setattr(load, "shapes_data", lambda size, seed: (size, seed))
    assert load_data("shapes", seed=3) == (32, 3) and load_data("shapes", 16) == (16, 0)
    with pytest.raises(ValueError, match="no data source 'emojis': choose emoji, shapes, or the path of a folder"):
        load_data("emojis")
    with pytest.raises(ValueError, match="hold_out_style 'noto' is an emoji style; 'shapes' has none"):
        load_data("shapes", hold_out_style="noto")
