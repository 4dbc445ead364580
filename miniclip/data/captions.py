"""Tables of captions: CSV and its relatives, as spreadsheets, pandas and the makers of data sets write them.

Nothing is guessed. The separator is the one that makes the first line name a picture's column and a caption's; every
line must have as many fields as the first; and a quote that is opened and not closed is refused with its line, for it
would swallow the pictures below it.
"""

import csv
import io
import os
import re
from collections import Counter
from pathlib import Path

from .pictures import endings

NAMES = ("captions.csv", "captions.tsv", "captions.txt")
TEXT = {"", ".csv", ".tsv", ".txt", ".token", ".json", ".md"}  # what may well lie beside pictures
SEPARATORS = ",;\t|"
IMAGE = "image image_name image_path image_file file file_name file_path filename filepath path picture photo img"
CAPTION = "caption captions comment text title description sentence"
LONGEST = 100_000  # characters of a first line that are looked at
COLUMNS = {"image": IMAGE.split(), "caption": CAPTION.split()}


class Album:
    """Where the pictures of a table lie: in its folder, in Images, or in another folder beside it."""

    def __init__(self, folder):
        beside = sorted(f for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))
        beside.sort(key=lambda f: f.name.lower() != "images")
        self.folders, self.files = [folder, *beside], {}
        self.names = [{entry.name for entry in os.scandir(f) if entry.is_file()} for f in self.folders]

    def find(self, name):
        """The file of this name, or None; a suffix as in dog.jpg#0 is no part of it. ValueError where there are two."""
        if name not in self.files:
            self.files[name] = self.search(name) or self.search(re.sub(r"#\d+$", "", name).replace("\\", "/"))
        return self.files[name]

    def search(self, name):
        plain, found = "/" not in name, []
        for folder, names in zip(self.folders, self.names):
            if (not plain or name in names) and (folder / name).is_file():
                if folder in self.folders[:1] or folder.name.lower() == "images":
                    return folder / name
                found.append(folder / name)
        if len(found) > 1:
            raise ValueError(f"the picture {name!r} may be {found[0]} or {found[1]}; give the folder, too")
        return found[0] if found else None

    def looks_like_a_picture(self, field):
        field = re.sub(r"#\d+$", "", field.strip(' "'))
        return Path(field).suffix.lower() in endings() or bool(field) and any(field in names for names in self.names)

    def passed_over(self):
        """Remarks on the files that lie beside those that were found and were not; notes and tables do not count."""
        found = {file for file in self.files.values() if file}
        places = {file.parent for file in found}
        names = [(f, name) for f, names in zip(self.folders, self.names) if f in places for name in names]
        others = [Path(name).suffix.lower() for folder, name in names if name[0] != "." and folder / name not in found]
        without, unread = sum(e in endings() for e in others), Counter(e for e in others if e not in endings() | TEXT)
        remarks = [f"pictures without a caption, which were passed over: {without}"] if without else []
        return remarks + ([not_read(unread)] if unread else [])


def not_read(endings):
    """A remark on files, counted by their endings."""
    kinds = ", ".join(f"{count} {ending}" for ending, count in sorted(endings.items()))
    return f"files that Pillow does not read as pictures, which were passed over: {kinds}"


def find_table(folder):
    """The table of captions in a folder: one of `NAMES`, or the only .csv or .tsv with these columns or .token;
    else None.

    Raises ValueError where there are two.
    """
    files = sorted(f for f in folder.iterdir() if f.is_file() and not f.name.startswith("."))
    found = [f for f in files if f.name.lower() in NAMES]
    if not found:
        found = [f for f in files if f.suffix.lower() in (".csv", ".tsv") and separator_of(f, first_line(f), None)]
        found += [f for f in files if ".token" in f.name.lower()]
    if len(found) > 1:
        raise ValueError(f"{folder} holds {' and '.join(f.name for f in found)}; leave the one to read")
    return found[0] if found else None


def first_line(table):
    """The first line of a table that says something, cut to LONGEST characters."""
    with open(table, encoding="utf-8-sig", errors="replace") as lines:
        return next((line for line in lines if line.strip() and not line.startswith("sep=")), "")[:LONGEST]


def read_captions(table):
    """A table with a picture's name and a caption in each line -> {path of the picture: [captions]}, in its order.

    The columns bear a name of `COLUMNS`; others are passed over, as is the index that pandas writes. Without a line
    of names, the first field is the picture and the last of two or three the caption, as in Flickr30k's .token.
    Fields are separated by commas, semicolons, tabs or bars; in double quotes they may hold these, lines, and quotes
    that are doubled or have a backslash. A picture lies beside the table, in the folder Images, or in another one.

    Raises FileNotFoundError for a picture that is not there, and ValueError for all else that does not fit, each
    with the number of the line.
    """
    return album_and_captions(table)[1]


def album_and_captions(table):
    """As `read_captions`, -> (Album, {path of the picture: [captions]})."""
    try:
        text = table.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{table} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    if "\0" in text:
        raise ValueError(f"{table} is no text, for its character {text.index(chr(0))} is zero; save it as UTF-8")
    text = re.sub(r"\Asep=.(?=[\r\n])", "", text)  # Excel's note to itself; the line stays, so that lines count right
    album = Album(table.parent)
    head = next((line for line in io.StringIO(text, newline=None) if line.strip()), "")[:LONGEST]
    found = separator_of(table, head, album)
    if not found:
        have, seen = head.strip()[:80] or "empty", {name for mark in SEPARATORS for name in names_in(head, mark)}
        missing = next((what for what, names in COLUMNS.items() if not seen & set(names)), "image")
        raise ValueError(f"{table} has no column {missing!r}: its first line is {have}, not image,caption")
    separator, fields, image, caption, named = found
    captions_of = {}
    for number, row in rows_of(table, text, separator, fields, album):
        if named:
            named = False
            continue
        where = f"{table}, line {number}"
        name, words = row[image].strip(), " ".join(row[caption].split()).replace('\\"', '"')
        if not name:
            raise ValueError(f"{where} names no picture")
        if not words:
            raise ValueError(f"{where}: the caption of {name!r} is empty")
        try:
            file = album.find(name)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        if file is None:
            raise FileNotFoundError(f"{where}: the picture {name!r} is neither beside the table nor in Images")
        captions_of.setdefault(file, []).append(words)
    if not captions_of:
        raise ValueError(f"{table} holds no captions below its first line")
    return album, captions_of


def names_in(line, separator):
    """The fields of a first line, as names to compare."""
    fields = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    return [re.sub(r"[\s-]+", "_", field.strip().lower()) for field in fields]


def separator_of(table, head, album):
    """(separator, fields, image's column, caption's column, whether the first line names them), or None."""
    for separator in SEPARATORS:
        names = names_in(head, separator)
        columns = []
        for what, known in COLUMNS.items():
            fitting = [name for name in names if name in known]
            if len(fitting) > 1 and fitting.count(what) != 1:
                if not album:
                    break
                raise ValueError(f"{table} has columns {' and '.join(fitting)}: name the one to read {what!r}")
            columns += [names.index(what if what in fitting else fitting[0])] if fitting else []
        if len(columns) == 2:
            return separator, len(names), *columns, True
    for separator in SEPARATORS if album else "":
        fields = next(csv.reader([head], delimiter=separator, skipinitialspace=True), [""])
        numbered = len(fields) == 3 and fields[1].strip().isdecimal()
        if (len(fields) == 2 or numbered) and album.find(fields[0].strip()):
            return separator, len(fields), 0, len(fields) - 1, False
    return None


def rows_of(table, text, separator, fields, album):
    """(number of its first line, row of fields) of each row. ValueError where quotes or fields do not fit."""
    try:
        return checked(table, text, separator, fields, album)
    except ValueError:
        if '\\"' not in text:
            raise
    # A backslash before a quote or another backslash stands for what follows, and any other for itself.
    text = re.sub(r'\\(["\\])|\\', lambda found: found[0] if found[1] else r"\\", text)
    return checked(table, text, separator, fields, album, "\\")


def checked(*arguments):
    """The generator `parsed`, known to run through."""
    for _ in parsed(*arguments):
        pass
    return parsed(*arguments)


def parsed(table, text, separator, fields, album, escape=None):
    """Yield the rows of a table by one separator. Raises ValueError, with the line, where a quote swallows pictures."""
    lines, first = list(io.StringIO(text, newline="")), 1
    former = csv.field_size_limit(max(len(text), 131_072))  # a caption may be of any length
    try:
        reader = csv.reader(lines, delimiter=separator, escapechar=escape, strict=True, skipinitialspace=True)
        for row in reader:
            for number in range(first + 1, reader.line_num + 1):
                if any(map(album.looks_like_a_picture, lines[number - 1].split(separator))):
                    swallowed = f"and line {number}, which names a picture, is still in it"
                    raise ValueError(f"{table}, line {first} opens a quote, {swallowed}: close it, or double it")
            if any(field.strip() for field in row):
                if len(row) != fields:
                    many, hint = "few", "each line needs as many as the first"
                    if len(row) > fields:
                        many, hint = "many", "put a caption that holds the separator into double quotes"
                    raise ValueError(f"{table}, line {first} has too {many} fields, {len(row)} for {fields}; {hint}")
                yield first, row
            first = reader.line_num + 1
    except csv.Error as error:
        hint = "close a quote that was opened, and double one inside a caption"
        raise ValueError(f"{table}, line {first} cannot be read as a row ({error}); {hint}") from None
    finally:
        csv.field_size_limit(former)
