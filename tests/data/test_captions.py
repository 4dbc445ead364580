"""Tables of captions: every common way to write one is read whole, and what cannot be is refused with its line."""

import csv
import io
import itertools
import time

import numpy as np
import pytest
from picture_files import captioned, save

from miniclip.data import folder_data
from miniclip.data.captions import find_table, read_captions
from miniclip.data.grouping import group_by_caption, keys_of

CAPTIONS = {
    "a.png": ["A dog, running; fast", 'a "red" thing'],
    "b.png": ['"quoted" from the start', "grün 🍏"],
    "c.png": ["a | bar and a\ttab", "back\\slash"],
    "d.png": ['it ends in a "quote"', "it's 12\" long, say"],
    "e.png": ["two lines\nof text", "plain"],
}


@pytest.fixture
def folder(tmp_path):
    for k, name in enumerate(CAPTIONS):
        save(tmp_path / name, (k, k, k))
    return tmp_path


def read(folder):
    """{name of the picture: captions} of the table in a folder."""
    return {file.name: captions for file, captions in read_captions(find_table(folder)).items()}


def expected(captions=CAPTIONS):
    return {name: [" ".join(text.split()) for text in texts] for name, texts in captions.items()}


def written(header, rows, end="\n", **dialect):
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=end, **dialect).writerows([header, *rows])
    return text.getvalue()


ROWS = [(name, text) for name, texts in CAPTIONS.items() for text in texts]
HEADERS = ["image,caption", "Image,Caption", "image|comment", "filepath,title", "image_name, comment", "file_name,text"]
QUOTES = [{}, {"quoting": csv.QUOTE_ALL}, {"quoting": csv.QUOTE_ALL, "doublequote": False, "escapechar": "\\"}]


@pytest.mark.parametrize("separator", list(",;\t|"))
@pytest.mark.parametrize("header", HEADERS)
def test_every_way_to_write_a_table(folder, header, separator):
    """24 of names and separators, each in 54 ways: quotes, ends of lines, an index as pandas writes it."""
    names = header.replace("|", ",").split(",")
    for quotes, end, index in itertools.product(QUOTES, ["\n", "\r\n", "\r"], [False, True]):
        rows = [(name, text.replace("\n", end)) for name, text in ROWS]
        rows = [(k, *row) for k, row in enumerate(rows)] if index else rows
        text = written(["", *names] if index else names, rows, end, delimiter=separator, **quotes)
        for start in ("", "\ufeff", f"sep={separator}{end}"):
            (folder / "captions.csv").write_bytes((start + text + end).encode())
            assert read(folder) == expected(), (quotes, end, index, start)


def test_tables_as_they_are_found(folder):
    simple = {name: [f"{name[0]} dog, said he", "a cat ."] for name in CAPTIONS}
    flickr30k = [(f"{name}#{k}", text) for name, texts in simple.items() for k, text in enumerate(texts)]
    bars = "".join(f"{row[0].split('#')[0]}| {row[0][-1]}| {row[1]}\n" for row in flickr30k)
    rows = [(name, text) for name, texts in simple.items() for text in texts]
    tables = {
        "captions.txt": written(["image", "caption"], rows),
        "captions.csv": written(["image", "caption"], flickr30k),
        "captions.tsv": written(["caption", "id", "filename"], [(b, 7, a) for a, b in rows], delimiter="\t"),
        "results.csv": "image_name| comment_number| comment\n" + bars,
        "Flickr.token": "".join(f"{a}\t{b}\n" for a, b in flickr30k),
        "captions.TXT": bars,
        "metadata.csv": written(["file_name", "text"], [(f"./{a}", b) for a, b in rows]),
    }
    for name, text in tables.items():
        (folder / name).write_text(text)
        assert read(folder) == simple, name
        (folder / name).unlink()
    (folder / "captions.txt").write_text(tables["captions.txt"])
    (folder / "metadata.csv").write_text(tables["metadata.csv"])
    assert find_table(folder).name == "captions.txt"
    (folder / "captions.csv").write_text(tables["captions.csv"])
    with pytest.raises(ValueError, match="holds captions.csv and captions.txt; leave the one to read"):
        find_table(folder)


def test_pictures_beside_the_table_and_in_folders(tmp_path):
    for name in ("Images/a.png", "Images/#1.png", "other/b.png", "thumbs/a.png", "deep/er/c.png", "x.png"):
        save(tmp_path / name)
    names = ["a.png", "b.png", "deep/er/c.png", "deep\\er\\c.png", "x.png", "#1.png", str(tmp_path / "x.png")]
    (tmp_path / "captions.csv").write_text(written(["image", "caption"], [(name, "t") for name in names]))
    found = [str(f.relative_to(tmp_path)) for f in read_captions(tmp_path / "captions.csv")]
    assert found == ["Images/a.png", "other/b.png", "deep/er/c.png", "x.png", "Images/#1.png"]
    save(tmp_path / "thumbs" / "b.png")
    with pytest.raises(ValueError, match="line 3: the picture 'b.png' may be .*b.png or .*b.png; give the folder"):
        read_captions(tmp_path / "captions.csv")


def test_one_lone_quote_loses_no_picture(tmp_path):
    """At every line, and wherever it may stand in it: refused with the number of that line, or read as it stands."""
    names = [f"{k}.png" for k in range(20)]
    for name in names:
        save(tmp_path / name)
    plain = ["image,caption", *(f"{name},a dog number {name[:-4]}" for name in names)]
    quoted = ["image,caption", *(f'{name},"a dog, number {name[:-4]}"' for name in names)]
    refused = 0
    for lines, number in itertools.product((plain, quoted), (2, 12, 21)):
        line = lines[number - 1]
        for place in range(len(line) + 1):
            broken = [*lines[: number - 1], line[:place] + '"' + line[place:], *lines[number:]]
            (tmp_path / "captions.csv").write_text("\n".join(broken))
            try:
                found = read(tmp_path)
            except (ValueError, OSError) as error:
                assert f"captions.csv, line {number}" in str(error)
                refused += 1
            else:
                assert list(found) == names
                whole = {name: [line.split(",", 1)[1].strip('"')] for name, line in zip(names, lines[1:])}
                assert {name: [text.replace('"', "") for text in texts] for name, texts in found.items()} == whole
    assert refused > 60
    broken = [*plain[:11], '10.png,"a dog', *plain[12:15], '14.png,a dog"', *plain[16:]]  # closed further down
    (tmp_path / "captions.csv").write_text("\n".join(broken))
    with pytest.raises(ValueError, match="line 12 opens a quote, and line 13, which names a picture, is still in it"):
        read(tmp_path)


@pytest.mark.parametrize(
    "rows, header, message",
    [
        (["a.png,x", "b.png,y"], "thing,caption", r"captions\.csv has no column 'image'.*thing,caption"),
        (["a.png,x", "b.png,y"], "image,words", r"captions\.csv has no column 'caption'"),
        (["a.png,x", "b.png,y"], "x.png,words", "has no column 'image'"),
        (
            ["a.png,x", "b.png,y"],
            "file,filename,caption",
            "has columns file and filename: name the one to read 'image'",
        ),
        (["a.png,x", "b.png,"], "image,caption", r"line 3: the caption of 'b\.png' is empty"),
        (["a.png,x", "b.png"], "image,caption", r"line 3 has too few fields, 1 for 2"),
        (["a.png,x", "b.png,a dog, running"], "image,caption", r"line 3 has too many fields.*double quotes"),
        (["a.png,x", 'b.png,"a" dog'], "image,caption", r"line 3 cannot be read as a row"),
        (["a.png,x", "b.png,y"], 'image,"caption', r"line 1 cannot be read|has no column"),
        (["a.png,x"], "image,caption", r"only one thing, 'x'"),
        (["a.png,x", "b.png,x"], "image,caption", r"only one thing, 'x'"),
        (["a.png,A dog", "b.png,a  dog"], "image,caption", r"less than two things to compare|only one thing"),
        (["a.png,x", "b.png,\x01"], "image,caption", r"holds no words"),
        ([], "image,caption", r"holds no captions"),
    ],
)
def test_a_bad_table_is_named(tmp_path, rows, header, message):
    with pytest.raises(ValueError, match=message):
        folder_data(captioned(tmp_path, rows, header), 8, validation=0)


def test_a_table_of_nothing_or_of_another_encoding(tmp_path):
    for content, message in (
        (b"", "no column 'image'.*empty"),
        ("image,caption\na.png,grün".encode("latin-1"), r"captions\.csv is not UTF-8"),
        (b"x" * 300_000, "has no column 'image'"),
        (b"image,caption\na.png,x\0y", "is no text, for its character 21 is zero"),
    ):
        (tmp_path / "captions.csv").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            folder_data(tmp_path, 8)


def test_a_caption_of_any_length(folder):
    (folder / "captions.csv").write_text(f"image,caption\na.png,{'x ' * 200_000}\nb.png,y")
    limit = csv.field_size_limit()
    assert len(read(folder)["a.png"][0]) == 399_999
    assert csv.field_size_limit() == limit


def test_a_caption_for_a_picture_that_is_not_there(tmp_path):
    captioned(tmp_path, ["a.png,x", "b.png,y", "lost.png,z"], files=["a.png", "b.png"])
    with pytest.raises(FileNotFoundError, match=r"line 4: the picture 'lost\.png' is neither"):
        folder_data(tmp_path, 8)
    (tmp_path / "captions.csv").write_text("image,caption\n,a caption of nothing\n")
    with pytest.raises(ValueError, match="line 2 names no picture"):
        folder_data(tmp_path, 8)


@pytest.mark.slow
def test_a_million_captions_take_ten_times_as_long_as_a_tenth_of_them(tmp_path):
    """With something quadratic in it, they would take a hundred times as long."""
    names, seconds = [f"{k}.jpg" for k in range(2000)], []
    for name in names:
        (tmp_path / name).touch()
    for count in (100_000, 1_000_000):
        rows = [(names[k % 2000], f"A dog number {k}, running through the grass .") for k in range(count)]
        (tmp_path / "captions.csv").write_text(written(["image", "caption"], rows))
        start = time.process_time()
        captions_of = read_captions(tmp_path / "captions.csv")
        _, captions = group_by_caption(captions_of.values())
        seconds.append(time.process_time() - start)
        assert sum(map(len, captions)) == count and len(captions_of) == 2000
    assert seconds[1] < 30 * seconds[0], seconds


# ------------------------------------------------------------------------------------------ the same caption


def test_a_shared_caption_never_makes_a_false_negative():
    captions_of = [["a dog", "a brown dog"], ["a cat"], ["a dog"], ["a dog", "a puppy"], ["a cat"]]
    concept, captions = group_by_caption(captions_of)
    assert concept.tolist() == [0, 1, 0, 2, 1] and concept.dtype == np.int64
    assert captions == [["a dog", "a brown dog"], ["a cat"], ["a puppy"]]
    concept, captions = group_by_caption([["A dog.", "a dog ."], ["a  DOG."], ["a cat", "A Dog."]])
    assert concept.tolist() == [0, 0, 1] and captions == [["A dog."], ["a cat"]]


def test_captions_are_the_same_where_their_tokens_are():
    alike = [
        ["a dog's", "A DOG\u2019S", "a  dog 's"],
        ["caf\u00e9", "cafe\u0301"],
        ["a & b", "A &amp; b"],
        ["icecream"],
    ]
    alike += [["ice cream", "Ice\ncream"], ["a dog."], ["a dog"]]
    keys = keys_of([text for texts in alike for text in texts])
    assert all(len({keys[text] for text in texts}) == 1 for texts in alike)
    assert len(set(keys.values())) == len(alike)
