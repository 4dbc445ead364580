"""The index of a tar: what is found, what is left out and counted, and what is refused by name."""

import gzip
import io
import os
import tarfile
from collections import Counter

import numpy as np
import pytest
from commands import command, refused
from tar_files import pair, picture, write_tar

from miniclip.data import TarSet, index_tar, tar_index
from miniclip.data.tar_index import BLOCK, LEFT_OUT, caption, index_path, read_index, text_key
from miniclip.tokenizer import Tokenizer, clean

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "pax": tarfile.PAX_FORMAT, "gnu": tarfile.GNU_FORMAT}
TEN = [file for k in range(10) for file in pair(k)]


def pairs_in(path):
    """The pairs that the index of a tar leads to, as bytes: [(picture, caption file)]."""
    index_tar(path)
    content, [pairs] = path.read_bytes(), read_index(path, "pairs")
    return [(content[a : a + b], content[c : c + abs(d)]) for a, b, c, d in pairs.tolist()]


def whole(left_out):
    return {what: count for what, count in left_out.items() if count}


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_pairs_as_webdataset_finds(format, tmp_path):
    """Also where names are long, or not of ASCII, and other files stand among them."""
    oracle = pytest.importorskip("webdataset").tariterators
    files = []
    for k, name in enumerate(("a", "./b", "folder/c.d", "e.JPG", "ü", "f" * 90, "g" * 60 + "/" + "h" * 90, "x y")):
        stem = name.removesuffix(".JPG").replace("c.d", "c")
        ending = ("JPG", "jpeg", "png", "webp")[k % 4]
        kind = {"JPG": "JPEG", "jpeg": "JPEG"}.get(ending, ending.upper())
        files += [(f"{stem}.{ending}", picture(k, kind)), (f"{stem}.json", b"{}"), (f"{stem}.TXT", b"no. %d" % k)]
        files += [(f"{stem}.parquet", b"1")] * (k % 2)
    if format != "ustar":  # which allows names of up to 255 bytes
        files += [("long/" * 60 + "l.jpg", picture(9, "JPEG")), ("long/" * 60 + "l.txt", b"far away")]
    files += [("__notes__/n.jpg", picture(1, "JPEG")), ("__notes__/n.txt", b"a note"), (".hidden.txt", b"no")]
    path = write_tar(tmp_path / "a.tar", files, FORMATS[format])
    with open(path, "rb") as file:
        found = [sample | {"__url__": ""} for sample in oracle.tar_file_iterator(file)]
    endings = {"jpg", "jpeg", "png", "webp"}
    theirs = [(sample[e], sample["txt"]) for sample in oracle.group_by_keys(found) for e in endings & set(sample)]
    assert len(theirs) == 8 + (format != "ustar")
    assert pairs_in(path) == theirs


def test_what_is_left_out_is_counted(tmp_path):
    files = [*TEN, ("half.png", picture()), ("lone.txt", b"a caption"), ("lone2.json", b'{"caption": "too"}')]
    files += [*pair(20, ""), *pair(21, " \n"), ("x.png", picture()), ("x.json", b'{"caption": null}')]
    files += [("bad.jpg", picture()), ("bad.txt", b"\xff\xfe"), ("b.png", picture()), ("b.json", b"{")]
    files += [("c.png", picture()), ("c.json", b'{"caption": 3}'), ("d.png", picture()), ("d.json", b"[]")]
    files += [("e.png", b""), ("e.txt", b"nothing to see"), ("f.png", picture()), ("f.txt", b"long " * 300_000)]
    files += [("table.parquet", b"1"), ("noending", b""), ("._f.png", b"1")]
    path = write_tar(tmp_path / "a.tar", files)
    with tarfile.open(path, "a") as tar:
        link, folder = tarfile.TarInfo("l.png"), tarfile.TarInfo("folder")
        link.type, link.linkname, folder.type = tarfile.SYMTYPE, "half.png", tarfile.DIRTYPE
        tar.addfile(link)
        tar.addfile(folder)
    count, missing = index_tar(path)
    assert count == 10 and missing == dict(zip(LEFT_OUT, (1, 2, 3, 5, 1, 4)))
    assert index_tar(path) == (count, missing)  # and again from the index
    assert TarSet("a", [path]).left_out == missing


def test_a_caption_in_json_where_there_is_no_txt(tmp_path):
    files = [("a.png", picture()), ("a.json", b'{"caption": "in JSON"}'), ("b.json", b'{"caption": "no"}'), *pair(1)]
    path = write_tar(tmp_path / "a.tar", [*files, ("b.png", picture()), ("b.txt", b"in txt")])
    texts = [text for _, text in pairs_in(path)]
    assert texts == [b'{"caption": "in JSON"}', b"in txt", b"thing 1"]
    assert (read_index(path, "pairs")[0][:, 3] < 0).tolist() == [True, False, False]
    assert caption(texts[0], True) == "in JSON" and caption(b"\xef\xbb\xbf a \n", False) == "a"


def test_interleaved_keys_are_paired(tmp_path):
    """WebDataset would make two halves of each."""
    files = [file for k in range(6) for file in pair(k)]
    path = write_tar(tmp_path / "a.tar", files[::2] + files[1::2])
    assert [text for _, text in pairs_in(path)] == [f"thing {k}".encode() for k in range(6)]


@pytest.mark.parametrize("twice", ["000003.png", "000003.txt", "000003.jpg"])
def test_what_a_tar_holds_twice_is_refused(twice, tmp_path):
    """Beside the first, or at the end: nobody knows which one is meant."""
    for place in (8, len(TEN)):
        path = write_tar(tmp_path / "a.tar", [*TEN[:place], (twice, picture(1)), *TEN[place:]])
        with pytest.raises(ValueError, match="a.tar holds two .* by the name '000003': write it anew, each name once."):
            index_tar(path)
        assert not index_path(path).exists()


@pytest.mark.parametrize("format", FORMATS)
def test_a_tar_that_is_damaged_anywhere_is_refused(format, tmp_path):
    """A changed bit in any header, which tarfile takes for the end of the tar; where the first ends, or is."""
    path = write_tar(tmp_path / "a.tar", TEN, FORMATS[format])
    content = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        offsets = [member.offset for member in tar]
    for offset in offsets[:3] + offsets[-1:]:
        for byte in (0, 30, 130, 150, 156):
            content[offset + byte] ^= 1
            path.write_bytes(content)
            content[offset + byte] ^= 1
            with pytest.raises(ValueError, match=r"a\.tar (is no tar|is damaged|has a damaged header)"):
                index_tar(path)
    path.write_bytes(content)
    assert index_tar(path)[0] == 10


def test_zeros_where_a_header_stood(tmp_path):
    """A hole in the file: an end of the tar that is none."""
    path = write_tar(tmp_path / "a.tar", TEN)
    with tarfile.open(path) as tar:
        offset = tar.getmembers()[10].offset
    content = path.read_bytes()
    path.write_bytes(content[:offset] + bytes(BLOCK) + content[offset + BLOCK :])
    with pytest.raises(ValueError, match=f"at byte {offset + BLOCK}: what follows would be lost"):
        index_tar(path)
    path.write_bytes(content + content)
    with pytest.raises(ValueError, match="goes on after its end"):
        index_tar(path)


def test_a_tar_that_is_cut_short_anywhere_is_refused(tmp_path):
    """But for the zeros after its end, of which one block is enough."""
    path = write_tar(tmp_path / "a.tar", TEN[:6])
    content = path.read_bytes()
    with tarfile.open(path) as tar:
        end = (tar.getmembers()[-1].offset_data + BLOCK - 1 + tar.getmembers()[-1].size) // BLOCK * BLOCK
    for length in (*range(1, end, 97), *range(BLOCK, end + BLOCK, BLOCK), end - 1, end + 1, end + BLOCK - 1):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"a\.tar is (no tar|cut short|damaged or cut short)"):
            index_tar(path)
    for length in (end + BLOCK, end + 3 * BLOCK):
        path.write_bytes(content[:length])
        assert index_tar(path)[0] == 3


def test_what_is_no_tar_is_refused(tmp_path):
    whole = write_tar(tmp_path / "whole.tar", TEN).read_bytes()
    (tmp_path / "folder.tar").mkdir()
    for name, content, words in (
        ("a", gzip.compress(whole), "is packed by gzip, and its files cannot be reached: unpack it"),
        ("b", b"", "is empty: fetch it again"),
        ("c", bytes(10240), r"holds no picture with a caption \(no files at all\): leave it out"),
        ("d", b"<html>not here</html>" * 100, "is no tar, or damaged"),
    ):
        path = tmp_path / f"{name}.tar"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}\.tar {words}"):
            index_tar(path)
    path = write_tar(tmp_path / "f.tar", [("PK.png", picture()), ("PK.txt", b"a tar begins with a name")])
    assert index_tar(path)[0] == 1
    path = write_tar(tmp_path / "e.tar", [("a.png", picture()), ("b.txt", b"b"), ("c", b"c")])
    with pytest.raises(ValueError, match="1 pictures without a caption, 1 captions without a picture, 1 other files"):
        index_tar(path)
    with pytest.raises(FileNotFoundError, match=r"there is no .*g\.tar: fetch it, or leave it out"):
        index_tar(tmp_path / "g.tar")
    with pytest.raises(ValueError, match=r"folder\.tar is no file"):
        index_tar(tmp_path / "folder.tar")


def test_a_tar_that_changed_is_noticed(tmp_path):
    path = write_tar(tmp_path / "a.tar", TEN)
    index_tar(path)
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    with pytest.raises(ValueError, match=r"a\.tar changed since it was indexed: run python -m miniclip index"):
        TarSet("a", [path])
    write_tar(path, TEN[:8])
    assert index_tar(path)[0] == 4 and len(TarSet("a", [path])) == 4  # indexed anew


def test_a_tar_that_is_still_being_written(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "a.tar", TEN)
    monkeypatch.setattr(tar_index, "pairs_of", lambda *given, f=tar_index.pairs_of: os.utime(path) or f(*given))
    with pytest.raises(ValueError, match=r"a\.tar changed while it was read: index it again when it is whole"):
        index_tar(path)
    assert not index_path(path).exists()


def test_an_index_that_is_missing_or_damaged(tmp_path):
    path = write_tar(tmp_path / "a.tar", TEN)
    with pytest.raises(FileNotFoundError, match=r"a\.tar is not indexed: run python -m miniclip index on it"):
        TarSet("a", [path])
    index_tar(path)
    content = index_path(path).read_bytes()
    np.save(changed := io.BytesIO(), np.zeros(3))
    for damaged in (b"", content[:-30], b"x" + content[1:], content[:99], b"text", changed.getvalue()):
        index_path(path).write_bytes(damaged)
        with pytest.raises(
            ValueError, match=r"index .*a\.tar\.index\.npz is damaged, or cannot be read: run python -m"
        ):
            TarSet("a", [path])
    assert index_tar(path)[0] == 10  # as it says
    byte = content.index(np.array(read_index(path, "pairs")[0][5]).tobytes())
    index_path(path).write_bytes(content[:byte] + b"\1" + content[byte + 1 :])
    with pytest.raises(ValueError, match="is damaged"):
        TarSet("a", [path]).table(0)


def test_a_folder_that_may_not_be_written_to(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "a.tar", TEN)

    def full(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match=r"cannot be written \(Permission denied\): make its folder .*ln -s"):
        index_tar(path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.tar"]
    monkeypatch.undo()
    (mine := tmp_path / "mine").mkdir()
    (mine / "a.tar").symlink_to(path)  # as the sentence says
    assert index_tar(mine / "a.tar")[0] == 10 and index_path(mine / "a.tar").exists()
    assert not index_path(path).exists()


@pytest.mark.filterwarnings("ignore:the text")
def test_texts_of_the_same_tokens_have_one_key():
    """And other texts have others, whatever is cleaned away."""
    tokenizer, rng = Tokenizer.clip(), np.random.default_rng(0)
    letters = list("aab  \t&;'.,<>3é’É \u0345") + ["&amp;", "â€™", "the ", "🙂", "\x1b[0m", "<|endoftext|>"]
    texts = ["".join(rng.choice(letters, 1 + rng.integers(6))) for _ in range(800)]
    texts += [start + end for start in ("a " * 75, "word " * 75) for end in ("", "x", "other")]
    keys, tokens = map(text_key, texts), (row.tobytes() for row in tokenizer(texts))
    owner = {}
    assert all(owner.setdefault(row, key) == key for row, key in zip(tokens, keys))
    assert len(set(owner.values())) > 0.9 * len(owner)
    assert text_key("A  photo\n") == text_key("a photo") != text_key("a photos")
    assert clean("Plain ASCII, {of} <any> 'kind'~") == "plain ascii, {of} <any> 'kind'~"


def test_the_command(tmp_path, capsys):
    for name, files in (("00", TEN), ("01", TEN[:4] + TEN[5:])):
        write_tar(tmp_path / f"{name}.tar", files)
    assert command("index", tmp_path / "{00..01}.tar") == 0
    assert capsys.readouterr().out == ("19 pairs in 2 tars are indexed.\nLeft out: 1 captions without a picture.\n")
    for name in ("02", "03"):
        (tmp_path / f"{name}.tar").write_bytes(b"")
    assert "02.tar is empty" in (said := refused(capsys, "index", tmp_path / "*.tar"))
    assert "1 others are refused too" in said
    assert "there is no" in refused(capsys, "index", tmp_path / "{00..01}x.tar")
    assert Counter(path.suffix for path in tmp_path.iterdir()) == {".tar": 4, ".npz": 2}
