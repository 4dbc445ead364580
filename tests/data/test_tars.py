"""Sets of tars: their names, what identifies them, and the reading of a pair."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import command
from picture_files import captioned, save
from tar_files import pair, picture, write_tar, write_tars

from miniclip.data import TarSet, index_tar, load_data, read_pair, tar_paths


@pytest.mark.parametrize(
    "name, names",
    [
        ("x/{08..11}.tar", "08 09 10 11"),
        ("x/{0..3}.tar", "0 1 2 3"),
        ("x/{9..10}.tar", "9 10"),
        ("x/{008..010,12,14..15}.tar", "008 009 010 12 14 15"),
        ("x/{a,b}{1,2}.tar", "a1 a2 b1 b2"),
        ("x/one.tar", "one"),
    ],
)
def test_braces(name, names):
    assert tar_paths(name) == [Path(f"x/{stem}.tar") for stem in names.split()]


@pytest.mark.parametrize(
    "name, words",
    [
        ("{3..1}.tar", "must be two numbers, the smaller one first"),
        ("{0..99999999999}.tar", "must be two numbers"),
        ("{a}.tar", "is no choice: write it as"),
        ("{a,b{0..1}}.tar", "is no choice: write it as"),
        ("{a,a}.tar", "names 1 of its tars twice"),
        ("nowhere/*.tar", "matches no tar"),
        ("https://a.b/{0..1}.tar", "fetch the tars first"),
        ("pipe:cat {0..1}.tar", "fetch the tars first"),
    ],
)
def test_names_that_say_nothing(name, words):
    with pytest.raises(ValueError, match=words):
        load_data(name)


def test_what_load_data_takes_for_tars(tmp_path):
    name = write_tars(tmp_path / "shards", [5, 3, 2])
    (tmp_path / "shards" / "000_stats.json").write_text("{}")  # as img2dataset leaves beside them
    (tmp_path / "shards" / "_tmp").mkdir()
    for there in (name, tmp_path / "shards", str(tmp_path / "shards" / "*.tar")):
        data, evaluations = load_data(there)
        assert isinstance(data, TarSet) and len(data) == 10 and evaluations == []
        assert data.counts.tolist() == [5, 3, 2] and data.name == Path(there).name
    assert len(load_data(tmp_path / "shards" / "001.tar")[0]) == 3
    with pytest.raises(FileNotFoundError, match="003.tar: fetch it"):
        load_data(name.replace("002}", "003}"))
    for packed in ("a.tar.gz", "a.tgz"):
        (tmp_path / packed).write_bytes(b"\x1f\x8b")
        with pytest.raises(FileNotFoundError, match="is not indexed"):
            load_data(tmp_path / packed)


def test_a_folder_of_pictures_beside_which_tars_lie(tmp_path):
    captioned(tmp_path, [f"{k}.png,thing {k}" for k in range(30)])
    write_tar(tmp_path / "old.tar", pair(0))
    with pytest.warns(UserWarning, match="passed over: 1 .tar"):
        assert not isinstance(load_data(tmp_path, 8)[0], TarSet)
    for file in (tmp_path / "captions.csv", *tmp_path.glob("*.png")):
        file.unlink()
    for name in ("cats", "dogs"):
        for k in range(12):
            save(tmp_path / name / f"{k}.png", (10 * k, ord(name[0]), 0))
    assert not isinstance(load_data(tmp_path, 8)[0], TarSet)


def test_the_fingerprint_is_that_of_what_the_tars_hold(tmp_path):
    name = write_tars(tmp_path / "a", [4, 3])
    first = load_data(name)[0].fingerprint()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for path in (tmp_path / "b").glob("*.tar"):
        os.utime(path, (1, 1))
        index_tar(path)
    assert load_data(tmp_path / "b")[0].fingerprint() == first
    files = [*pair(4), *pair(5), ("000007.png", picture(7)), pair(6)[1]]
    files[4] = ("000006.png", picture(7)[:-1])
    index_tar(write_tar(tmp_path / "b" / "001.tar", files))
    assert load_data(tmp_path / "b")[0].fingerprint() != first
    assert load_data(str(tmp_path / "a" / "{001,000}.tar"))[0].fingerprint() != first


def test_a_pair_is_what_was_written(tmp_path):
    data = load_data(write_tars(tmp_path, [3, 4]))[0]
    places, texts = data.table(1)
    assert places.shape == (4, 4) and places.dtype == np.int64 and texts.dtype == np.uint64
    with data.open(1) as file:
        for k, place in enumerate(places, 3):
            image, text = read_pair(file, place, 8)
            assert text == f"thing {k}" and image.mode == "RGB" and np.asarray(image)[0, 0].tolist() == [k, 0, 90]


def test_a_large_jpeg_is_decoded_small(tmp_path):
    sizes = {}
    for size in (100, 48, 24, 12, 5):
        files = [("a.jpg", picture(3, "JPEG", (100, 140))), ("a.txt", b"a")]
        index_tar(write_tar(tmp_path / "a.tar", files))
        data = load_data(tmp_path / "a.tar")[0]
        with data.open(0) as file:
            image, _ = read_pair(file, data.table(0)[0][0], size)
        sizes[size] = image.size[0]
        assert np.abs(np.asarray(image)[1, 1].astype(int) - [3, 0, 90]).max() <= 4
    assert sizes == {100: 100, 48: 50, 24: 25, 12: 13, 5: 13}


@pytest.mark.parametrize("content", [b"no picture", picture(1, "JPEG", (90, 90))[:-40], picture(1, "GIF"), b"\0"])
def test_a_picture_that_cannot_be_read_is_named(content, tmp_path):
    index_tar(write_tar(tmp_path / "a.tar", [*pair(0), ("broken.jpg", content), ("broken.txt", b"b")]))
    data = load_data(tmp_path / "a.tar")[0]
    with data.open(0) as file, pytest.raises(ValueError, match=r"^broken\.jpg in .*a\.tar cannot be read \("):
        read_pair(file, data.table(0)[0][1], 8)


def test_tars_that_change_during_a_run(tmp_path):
    data = load_data(write_tars(tmp_path, [4, 4]))[0]
    for remains in (range(4), range(3)):
        index_tar(write_tar(tmp_path / "001.tar", [file for k in remains for file in pair(50 + k)]))
        with pytest.raises(ValueError, match=r"001\.tar was replaced since this run began: start again"):
            data.table(1)
        with pytest.raises(ValueError, match=r"001\.tar changed since it was indexed: run python -m miniclip index"):
            data.open(1)
    (tmp_path / "001.tar").unlink()
    for read in (data.table, data.open):
        with pytest.raises(FileNotFoundError, match=r"there is no .*001\.tar"):
            read(1)
    data.open(0).close()


def test_help(capsys):
    with pytest.raises(SystemExit):
        command("index", "--help")
    assert "index 'shards/{00000..41454}.tar'" in capsys.readouterr().out
