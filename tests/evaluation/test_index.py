"""The file of an index, and the pictures that a folder holds; what `search` does with them is in test_cli_search.py."""

import os

import numpy as np
import pytest
from fake_clip import FakeClip, unit

from miniclip.checkpoints import write_arrays
from miniclip.evaluation import search
from miniclip.evaluation.index import pictures_below
from miniclip.evaluation.index_file import MOST_KEPT, Index, keep, read_index


@pytest.fixture
def index(rng):
    names = ["a.png", os.path.join("below", "b\udcff.png"), "line\nbreak.png"]
    digests = rng.integers(0, 256, (3, 32), np.uint8)
    return Index(names, unit(rng, 3, 8), digests, rng.integers(0, 1 << 62, (3, 4)))


def test_what_was_kept_is_read(index, tmp_path):
    """Names need be no text."""
    path = tmp_path / ".miniclip-1.safetensors"
    assert read_index(path, "key", 8) is None
    keep(index, "key", [path])
    read = read_index(path, "key", 8)
    assert read.names == index.names and read.arrays().keys() == index.arrays().keys()
    assert all((read.arrays()[name] == array).all() for name, array in index.arrays().items())


CHANGES = {
    "no such array": lambda arrays: arrays.pop("stamps"),
    "another array": lambda arrays: arrays.update(more=np.zeros(1)),
    "a name too few": lambda arrays: arrays.update(names=arrays["names"][:5]),
    "another width": lambda arrays: arrays.update(features=arrays["features"][:, :7]),
    "another dtype": lambda arrays: arrays.update(features=arrays["features"].astype(float)),
    "not of length 1": lambda arrays: arrays.update(features=2 * arrays["features"]),
    "not finite": lambda arrays: arrays.update(features=arrays["features"] * np.float32(np.nan)),
    "digests cut": lambda arrays: arrays.update(digests=arrays["digests"][:, :31]),
    "stamps of others": lambda arrays: arrays.update(stamps=arrays["stamps"][:2]),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_forged_index_is_not_used(case, index, tmp_path):
    """One whose checksum and key are right."""
    arrays, path = index.arrays(), tmp_path / "index"
    CHANGES[case](arrays)
    write_arrays(path, arrays, {"index": "key"})
    with pytest.warns(UserWarning, match="index cannot be used, and is made anew"):
        assert read_index(path, "key", 8) is None


def test_an_index_of_another_model_is_not_used(index, tmp_path):
    keep(index, "key", [tmp_path / "index"])
    with pytest.warns(UserWarning, match="it is another model's, or no index"):
        assert read_index(tmp_path / "index", "other", 8) is None


def test_old_indices_make_room(index, tmp_path):
    precious = tmp_path / ".mine.safetensors"
    precious.write_text("precious")
    for number in range(MOST_KEPT + 3):
        path = tmp_path / f".miniclip-{number}.safetensors"
        keep(index, "key", [path])
        os.utime(path, (number, number + 1))
    keep(index, "key", [path])
    left = sorted(int(path.name.split("-")[1].split(".")[0]) for path in tmp_path.glob(".miniclip-*"))
    assert left == list(range(3, MOST_KEPT + 3)) and precious.exists()


def test_the_pictures_of_a_folder(tmp_path):
    """Those below and behind links too, each once; hidden ones and what is no picture are left out."""
    below = tmp_path / "photos" / "b" / "c"
    below.mkdir(parents=True)
    for name in ("photos/2.PNG", "photos/1.jpg", "photos/b/c/3.webp", "photos/.hidden.png", "photos/b/notes.txt"):
        (tmp_path / name).write_bytes(b"")
    for name in ("photos/.thumbnails", "photos/__MACOSX", "elsewhere"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "4.png").write_bytes(b"")
    (below / "back").symlink_to(tmp_path / "photos")
    (below / "out").symlink_to(tmp_path / "elsewhere")
    found = ["1.jpg", "2.PNG", "b/c/3.webp", "b/c/out/4.png"]
    assert pictures_below(tmp_path / "photos") == [os.path.join(*name.split("/")) for name in found]


def test_search_by_features(rng):
    pictures = unit(rng, 5, 16)
    order, cosines = search(FakeClip(), pictures[3:4], pictures, count=2)
    assert order[0] == 3 and cosines[0] == pytest.approx(1)
    for query in (pictures, pictures[3], ["words"], None):
        with pytest.raises(ValueError, match="query must be one string, or features of shape .1, E."):
            search(FakeClip(), query, pictures)
