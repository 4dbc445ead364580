"""The command `search`, on emoji and on one's own folder: what it prints, what it keeps, and what it refuses."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from commands import COLOURS, command, draw, refused
from PIL import Image

import miniclip
from miniclip.data import load_data, open_picture
from miniclip.evaluation import index
from miniclip.training import fingerprint


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A user's cache folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "miniclip"


@pytest.fixture
def album(photos, tmp_path):
    """Eighteen pictures in six folders of one, one of them far below, and other files beside them."""
    folder = tmp_path / "my album"
    shutil.copytree(photos, folder / "years")
    (folder / "years" / "red" / "1.png").rename(folder / "top.png")
    (folder / "notes.txt").write_text("not a picture")
    return folder


@pytest.fixture
def embedded(monkeypatch):
    """The pictures that are embedded to be searched, counted since the last look."""
    seen = []

    def shrink(picture, config, original=index.shrink):
        seen.append(picture)
        return original(picture, config)

    def count():
        number = len(seen)
        seen.clear()
        return number

    monkeypatch.setattr(index, "shrink", shrink)
    return count


@pytest.fixture
def search(trained, capsys):
    """search(words, …) -> what JSON says, {picture or emoji: cosine similarity}, in order."""

    def search(*words):
        assert command("search", *words, "--json", "--count", 99, "--checkpoint", trained[0]) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        return {row.get("picture", row.get("emoji")): row["cosine_similarity"] for row in json.loads(printed.out)}

    return search


# ------------------------------------------------------------------------------------------ emoji


def test_emoji_by_words(trained, capsys):
    """Any model can search them, however badly; the first line says what the numbers are."""
    words = "search", "a", "red", "thing", "--style", "noto", "--count", 4, "--checkpoint", trained[0]
    assert command(*words) == 0
    printed = capsys.readouterr().out
    head, *rows = [line.split("\t") for line in printed.splitlines()]
    assert head == ["emoji", "cosine similarity", "name"]
    assert len(rows) == 4 and all(len(row) == 3 for row in rows)
    assert len({char for char, _, _ in rows}) == 4 and all(char and not char.isascii() for char, _, _ in rows)
    scores = [float(score) for _, score, _ in rows]
    assert scores == sorted(scores, reverse=True) and -1 <= scores[-1] <= scores[0] <= 1
    with pytest.raises(SystemExit):
        command("search", "--help")
    assert "cosine similarity" in " ".join(capsys.readouterr().out.split())


def test_emoji_are_embedded_once(search, cache, monkeypatch):
    drawn = []

    def some(style, original=index.emoji_pictures):
        drawn.append(style)
        pictures, codes = original(style)
        return pictures[:60], codes[:60]

    monkeypatch.setattr(index, "emoji_pictures", some)
    first = search("a red thing", "--style", "noto")
    assert search("a red thing", "--style", "noto") == first and len(first) == 60 and drawn == ["noto"]
    (kept,) = cache.iterdir()
    kept.write_bytes(kept.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="the index .* cannot be used, and is made anew"):
        assert search("a red thing", "--style", "noto") == first
    assert search("a red thing", "--style", "noto") == first and drawn == ["noto"] * 2
    search("a red thing", "--style", "noto", "--no-quick-gelu")
    assert drawn == ["noto"] * 3 and len(list(cache.iterdir())) == 2


# ------------------------------------------------------------------------------------------ one's own folder


def test_a_folder_is_searched_with_all_below(trained, album, search):
    found = search("a red thing", "--data", album)
    files = [path for path in album.rglob("*.png")]
    assert set(found) == set(map(str, files)) and len(found) == 18
    clip = miniclip.load(trained[0])
    text = clip.encode_text(["a red thing"])[0]
    for file in files:
        assert found[str(file)] == pytest.approx(clip.encode_image([open_picture(file)])[0] @ text, abs=2e-6)
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_only_what_is_new_is_embedded(album, search, embedded, monkeypatch):
    monkeypatch.setattr(index, "SETTLED", 0)

    def again(count):
        found = search("blue", "--data", album)
        assert embedded() == count
        assert set(found) == {str(path) for path in album.rglob("[!.]*.png")}
        return found

    before = again(18)
    assert again(0) == before
    draw(album / "new.png", "purple", 9)
    assert before.items() < again(1).items()
    file = album / "years" / "blue" / "0.png"
    (album / "new.png").unlink()
    assert again(0) == before
    file.rename(file.with_name("renamed.png"))
    shutil.copyfile(file.with_name("renamed.png"), album / "copy.png")
    os.utime(album / "top.png")
    found = again(0)
    assert found[str(album / "copy.png")] == before[str(file)] == found[str(file.with_name("renamed.png"))]
    file = album / "padded.png"

    def fill(colour):
        draw(file, colour, 3)
        file.write_bytes(file.read_bytes().ljust(400, b"\0"))
        return file.stat()

    about, before = fill("orange"), again(1)
    fill("purple")  # another picture of the same name, size and time
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (400, about.st_mtime_ns)
    assert again(1)[str(file)] != before[str(file)]


def test_times_are_believed_only_once_they_are_settled(album, search, monkeypatch):
    """Within a clock's tick a file can change, and its times not tell."""
    looked = []
    monkeypatch.setattr(
        index.hashlib, "file_digest", lambda *a, of=index.hashlib.file_digest: looked.append(a) or of(*a)
    )
    counts = []
    for settled in (1e18, 1e18, 0, 0):
        monkeypatch.setattr(index, "SETTLED", settled)
        search("blue", "--data", album)
        counts.append(len(looked))
        looked.clear()
    assert counts == [18, 18, 18, 0]


def test_a_folder_that_was_searched_trains_as_before(photos, tmp_path, search):
    folder = tmp_path / "copy"
    shutil.copytree(photos, folder)
    before = fingerprint(load_data(folder)[0])
    search("blue", "--data", folder)
    assert list(folder.glob(".miniclip-*")) and fingerprint(load_data(folder)[0]) == before


def test_a_folder_that_moves_takes_its_index_along(album, search, embedded):
    before = search("blue", "--data", album)
    embedded()
    (file,) = album.glob(".miniclip-*")
    moved = album.rename(album.with_name("moved"))
    after = search("blue", "--data", moved)
    assert embedded() == 0 and [file.name] == [path.name for path in moved.glob(".*")]
    assert list(after.values()) == list(before.values())


DAMAGE = {
    "a bit": lambda file: file.write_bytes(bytes([*file.read_bytes()[:-1], file.read_bytes()[-1] ^ 1])),
    "cut short": lambda file: file.write_bytes(file.read_bytes()[:100]),
    "empty": lambda file: file.write_bytes(b""),
    "text": lambda file: file.write_text("dear user"),
    "foreign": lambda file: shutil.copyfile(file.parent.parent / "other.safetensors", file),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_an_index_that_is_damaged_or_foreign_is_made_anew(case, trained, album, search, embedded):
    clip = miniclip.load(trained[0])
    miniclip.save(clip, album.parent / "other.safetensors")
    before = search("blue", "--data", album)
    (file,) = album.glob(".miniclip-*")
    DAMAGE[case](file)
    embedded()
    with pytest.warns(UserWarning, match="the index .* cannot be used, and is made anew") as said:
        assert search("blue", "--data", album) == before
    assert len(said) == 1 and embedded() == 18
    assert search("blue", "--data", album) == before and embedded() == 0


def test_another_model_has_another_index(trained, album, search, embedded, capsys):
    before = search("blue", "--data", album)
    embedded()
    other = search("blue", "--data", album, "--no-quick-gelu")
    assert embedded() == 18 and set(other) == set(before) and other != before
    assert len(list(album.glob(".miniclip-*"))) == 2
    assert search("blue", "--data", album) == before and embedded() == 0


def test_a_folder_that_cannot_be_written_to(album, search, embedded, cache, monkeypatch):
    def write(path, *rest, original=index.keep.__globals__["write_arrays"]):
        if album in path.parents or closed:
            raise PermissionError(f"{path} could not be written (Permission denied); nothing was there before.")
        original(path, *rest)

    monkeypatch.setitem(index.keep.__globals__, "write_arrays", write)
    closed = [True]
    with pytest.warns(UserWarning, match="the index cannot be kept") as said:
        before = search("blue", "--data", album)
    assert len(said) == 1 and not list(cache.iterdir())
    cache.rmdir()
    cache.write_text("a file")
    with pytest.warns(UserWarning, match=f"embeds anew: {cache} cannot be made .File exists.$"):
        assert search("blue", "--data", album) == before
    cache.unlink()
    closed.clear()
    with pytest.warns(UserWarning, match=f"the index is kept in {cache}, for .* could not be written") as said:
        assert search("blue", "--data", album) == before
    assert len(said) == 1 and len(list(cache.iterdir())) == 1 and embedded() == 54
    assert search("blue", "--data", album) == before and embedded() == 0


def test_pictures_that_cannot_be_read(trained, album, capsys):
    """They are named at the end, with how many there are; the others are answered."""
    (album / "broken.png").write_text("no picture")
    shutil.copyfile(album / "broken.png", album / "years" / "copy.png")
    os.mkfifo(album / "pipe.png")
    (album / "lost.png").symlink_to("nowhere")
    for _ in range(2):
        assert command("search", "blue", "--data", album, "--count", 3, "--checkpoint", trained[0]) == 2
        printed = capsys.readouterr()
        head, *rows = printed.out.splitlines()
        assert head == "picture\tcosine similarity" and len(rows) == 3
        *named, last = printed.err.splitlines()
        for name in ("broken.png", "copy.png", "pipe.png", "lost.png"):
            assert sum(f"{name} is no" in line for line in named) == 1, named
        assert last == "miniclip: 4 of 22 pictures cannot be read." and len(named) == 4


def test_what_is_passed_over_is_said(album, search):
    (album / "years" / "a.heic").write_bytes(b"")
    (album / ".hidden.png").write_bytes(b"")
    (album / "round").symlink_to(album)
    with pytest.warns(UserWarning, match="were passed over: 1 .heic"):
        assert len(search("blue", "--data", album)) == 18


def test_a_search_that_is_interrupted_keeps_what_it_embedded(album, trained, search, embedded, capsys, monkeypatch):
    monkeypatch.setattr(index, "SAVE_EVERY", 0)
    monkeypatch.setattr(index, "BLOCK", 4)

    read_by_now = []

    def read(file, original=index.open_picture):
        read_by_now.append(file)
        if len(read_by_now) == 10:
            raise KeyboardInterrupt
        return original(file)

    monkeypatch.setattr(index, "open_picture", read)
    assert command("search", "blue", "--data", album, "--checkpoint", trained[0]) == 130
    assert capsys.readouterr().err == "miniclip: interrupted.\n"
    assert embedded() >= 8
    assert len(search("blue", "--data", album)) == 18 and embedded() == 10


@pytest.mark.slow
def test_searches_at_the_same_time(trained, album, search):
    """Three of them on a folder without an index, and one more for another model."""
    words = [sys.executable, "-m", "miniclip", "search", "blue", "--json", "--count", "99", "--data", album]
    words += ["--checkpoint", trained[0]]
    runs = [
        subprocess.Popen(map(str, words + more), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for more in ([], [], [], ["--no-quick-gelu"])
    ]
    printed = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0] * 4 and {errors for _, errors in printed} == {b""}
    here = search("blue", "--data", album)
    for out, _ in printed[:3]:
        assert {row["picture"]: row["cosine_similarity"] for row in json.loads(out)} == pytest.approx(here, abs=2e-6)
    assert len(list(album.glob(".*"))) == 2  # and nothing temporary


# ------------------------------------------------------------------------------------------ by a picture


def test_by_a_picture(album, search):
    picture = album / "top.png"
    alone = search("--image", picture, "--data", album)
    assert next(iter(alone)) == str(picture) and alone[str(picture)] == pytest.approx(1, abs=1e-5)
    words, both = search("blue", "--data", album), search("blue", "--image", picture, "--data", album)
    ratio = [(alone[name] + words[name]) / both[name] for name in both]  # the length of the sum of two unit vectors
    assert ratio == pytest.approx([ratio[0]] * 18, rel=1e-4) and 0 < ratio[0] < 2


def test_by_a_picture_that_cannot_be_read(trained, tmp_path, capsys):
    (tmp_path / "broken.png").write_text("no picture")
    for name in ("broken.png", "lost.png"):
        assert name in refused(capsys, "search", "--image", tmp_path / name, "--checkpoint", trained[0])


# ------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    "words, said",
    [
        ([], "nothing to search for: give a few words, or a picture with --image"),
        (["  "], "the query holds no words"),
        ([""], "the query holds no words"),
        (["&nbsp;"], "the query holds no words"),
        (["word"] * 1000, "tokens, and this model reads at most 22: say it in fewer words"),
        (["a\udcff"], "the query holds bytes that are no text"),
        (["a", "--data", "nowhere"], "there is no folder nowhere"),
        (["a", "--data", __file__], "there is no folder"),
        (["a", "--data", "shapes"], "there is no folder shapes"),
        (["a", "--data", ".", "--style", "noto"], "--style noto is one of the emoji's"),
        (["a", "--style", "../../data/mosaics/noto"], "no emoji style"),
        (["a", "--style", "no\0to"], "no emoji style"),
        (["a", "--head-width", "0"], "head_width is 0"),
        (["a", "--model", "ViT-B-33"], "there is no model 'ViT-B-33'"),
    ],
)
def test_searches_that_cannot_be(words, said, trained, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert said in refused(capsys, "search", *words, "--checkpoint", trained[0])


def test_a_folder_without_pictures(trained, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    words = "--data", tmp_path / "empty", "--checkpoint", trained[0]
    assert "there is no picture in" in refused(capsys, "search", "a", *words)
    (tmp_path / "empty" / "broken.png").write_text("no picture")
    assert "of 1 pictures in" in refused(capsys, "search", "a", *words)


# ------------------------------------------------------------------------------------------ what loading is told


def test_what_is_said_of_weights_reaches_load(trained, album, monkeypatch, capsys):
    said = []

    def load(name, device, original=miniclip.load, **options):
        said.append(options)
        return original(name, device)

    monkeypatch.setattr("miniclip.checkpoints.load", load)
    flags = "--model ViT-B/32 --quick-gelu --head-width 80,64 --image-size 48".split()
    for words in (
        ["evaluate", trained[0], "--data", album],
        ["search", "a", "--data", album, "--checkpoint", trained[0]],
        ["classify", album / "top.png", "--labels", "a,b", "--checkpoint", trained[0]],
    ):
        command(*words, *flags)
        command(*words)
    capsys.readouterr()
    told = {"model": "ViT-B/32", "quick_gelu": True, "head_width": (80, 64), "image_size": 48}
    assert said == [told, dict.fromkeys(told)] * 3


def test_pictures_of_another_size(trained, album, search):
    assert search("blue", "--data", album, "--image-size", 64) != search("blue", "--data", album)


@pytest.mark.parametrize("colour", COLOURS[:2])
def test_shrinking_keeps_the_embedding(colour, trained, photos):
    clip = miniclip.load(trained[0])
    picture = Image.open(photos / colour / "0.png").resize((300, 200))
    [small] = index.shrink([picture], clip.config)
    assert small.shape == (32, 32, 3) and small.dtype == np.uint8
    assert (clip.encode_image([picture]) == clip.encode_image(small[None])).all()
