"""Build the emoji mosaics and emoji.json that ship with miniclip, from the artists' packages.

    python benchmarks/emoji/build_emoji.py --out build/emoji       fetch, check, draw, write
    python benchmarks/emoji/build_emoji.py --tarballs DIR          keep the packages in DIR, use those there

It needs npm, Debian's apt-get (for two packages; --tarballs does without) and the extra `build` of pyproject.toml.

Every style becomes one mosaic of 64-pixel cells (WebP with alpha), and emoji.json says what stands in each cell, what
it is called, and which combinations are never trained on; it also holds common words that are in no name. 64 is the
size of most originals, and cells that fill whole blocks of the codec cost fewer bytes than smaller ones that do not.
"""

import argparse
import hashlib
import io
import json
import os
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
from emoji_drawings import SIZE, read_style
from emoji_packages import fetch, normal_code, read_members
from emoji_sources import KEYWORDS, NAMES, STYLES, WORDS
from openclipart import read_concepts
from PIL import Image

from miniclip.data.emoji import FOLDER, NEVER_TRAINED

COLUMNS = 48
QUALITY = {"quality": 55, "alpha_quality": 25, "method": 6, "exact": True}
NO_GROUPS = ("component", "flags")
COMPLETE_IN = ("twemoji", "noto", "fluent")
LEAST_DIFFERENCE = 3.0
SAME_DRAWING = 0.9


def read_names(folder):
    """(emoji, tones): dicts of the emoji that may be used, in Unicode's order, without and with skin tone.

    Flags and components (skin tones and hair alone) are left out. `tones` maps the code of a base form
    to its five single-tone forms, light to dark.
    """
    data, groups = "package/en/data.json", "package/meta/groups.json"
    files = read_members(fetch(NAMES, folder), lambda name: name in (data, groups))
    data, groups = json.loads(files[data]), json.loads(files[groups])
    (keywords,) = read_members(fetch(KEYWORDS, folder), "package/dist/emoji-en-US.json".__eq__).values()
    keywords = {normal_code("-".join(f"{ord(c):x}" for c in char)): k for char, k in json.loads(keywords).items()}
    entries = [e for e in data if "group" in e and groups["groups"][str(e["group"])] not in NO_GROUPS]
    emoji, tones = {}, {}
    for entry in sorted(entries, key=lambda e: e["order"]):
        for form in [entry] + entry.get("skins", []):
            if form is not entry and not isinstance(form["tone"], int):
                continue
            code = normal_code(form["hexcode"])
            emoji[code] = {
                "char": form["emoji"],
                "code": code,
                "name": form["label"],
                "tags": entry.get("tags", []) if form is entry else [],
                "keywords": more_words(entry, keywords.get(code, [])) if form is entry else [],
                "group": groups["groups"][str(entry["group"])],
                "subgroup": groups["subgroups"][str(entry["subgroup"])],
            }
            if form is not entry:
                tones.setdefault(normal_code(entry["hexcode"]), []).append(code)
    return emoji, tones


def more_words(entry, keywords):
    """Of emojilib's keywords for an emoji those that are words, and neither its name, a word of it, nor a tag of it."""
    known = {entry["label"].lower(), *entry["label"].lower().split(), *entry.get("tags", [])}
    words = dict.fromkeys(keyword.replace("_", " ").lower() for keyword in keywords)
    return [word for word in words if re.fullmatch("[a-z]{2,}([ '-][a-z]+)*", word) and word not in known]


def filler_words(folder, entries):
    """The most common words of English, those of letters alone that are no word of an entry's name, sorted."""
    (common,) = read_members(fetch(WORDS, folder), "./usr/share/dict/scowl/english-words.10".__eq__).values()
    named = {word for entry in entries for word in re.findall("[a-z]+", entry["name"].lower())}
    return sorted(set(re.findall("^[a-z]+$", common.decode("latin-1"), re.MULTILINE)) - named)


def people_concepts(emoji, tones, drawn):
    """The concepts of the "unseen combination" evaluation: {name: ten codes, man light to dark, then woman}.

    A concept X is a pair of emoji named exactly "man X" and "woman X", of which the second is the first
    with the code point of woman for man or of the female sign for the male, whose ten forms, 2 genders
    x 5 skin tones, are all drawn by Twemoji, Noto and Fluent, and of which no two look alike: in each of
    these styles any two of the ten differ by at least LEAST_DIFFERENCE grey levels (root mean square).
    """
    concepts = {}
    for code, entry in emoji.items():
        other = code.replace("1f468", "1f469").replace("2642", "2640")
        codes = tones.get(code, []) + tones.get(other, [])
        is_pair = re.fullmatch(r"man [^:]+", entry["name"]) and emoji.get(other, {}).get("name") == "wo" + entry["name"]
        if is_pair and len(codes) == 10 and all(look_different(codes, drawn[s]) for s in COMPLETE_IN):
            concepts[entry["name"].removeprefix("man ")] = codes
    return concepts


def look_different(codes, style):
    """True when a style draws every code and no two of the pictures look alike."""
    if not all(code in style for code in codes):
        return False
    flat = np.stack([on_white(style[code]).ravel() for code in codes])
    squares = (flat * flat).mean(1)
    distance = squares[:, None] + squares[None] - 2 * flat @ flat.T / flat.shape[1]
    return distance[~np.eye(len(codes), dtype=bool)].min() >= LEAST_DIFFERENCE**2


def two_held_out(number):
    """Which two of a concept's ten forms are never trained on: one man, one woman, two skin tones.

    A fixed rule, no randomness: tones rotate with the concept's number, so genders are balanced exactly
    and tones as nearly as can be, and every tone and every gender of a concept is still seen in training.
    """
    return [number % 5, 5 + (number + 2) % 5]


def on_white(pixels):
    """uint8 (..., 4) straight alpha -> float64 (..., 3) in [0, 255] on a white ground."""
    alpha = pixels[..., 3:] / 255.0
    return pixels[..., :3] * alpha + 255.0 * (1.0 - alpha)


def one_name_each(pictures):
    """The (code, picture) pairs without those whose picture stands under a later code once more.

    In Unicode's order the later is the more exact: "man detective" comes after "detective".
    """
    last = {pixels.tobytes(): code for code, pixels in pictures}
    return [(code, pixels) for code, pixels in pictures if last[pixels.tobytes()] == code]


def repeats(pixels, other):
    """True when two pictures are the same drawing: the cosine of their mean-free pixels is near 1."""
    a, b = (np.ravel(flat) - flat.mean() for flat in (on_white(pixels), on_white(other)))
    return a @ b >= SAME_DRAWING * np.sqrt((a @ a) * (b @ b))


def mosaic(pictures):
    """Pictures in rows of COLUMNS as the bytes of one WebP file."""
    rows = -(-len(pictures) // COLUMNS)
    sheet = np.zeros((rows, SIZE, COLUMNS, SIZE, 4), np.uint8)
    for i, pixels in enumerate(pictures):
        sheet[i // COLUMNS, :, i % COLUMNS] = pixels
    out = io.BytesIO()
    Image.fromarray(sheet.reshape(rows * SIZE, COLUMNS * SIZE, 4)).save(out, "WEBP", **QUALITY)
    return out.getvalue()


def build(folder):
    """Everything that ships, as {file name: bytes}, from the packages in `folder` (fetched when missing)."""
    emoji, tones = read_names(folder)
    clipart = next(style for style in STYLES if style.kind == "clipart")
    others = read_concepts(fetch(clipart.package, folder), clipart.where, emoji)
    everything = {**emoji, **others}
    drawn = {style.name: read_style(style, folder, everything if style is clipart else emoji) for style in STYLES}
    concepts = people_concepts(emoji, tones, {name: dict(pictures) for name, pictures in drawn.items()})
    held_out = {codes[i] for k, codes in enumerate(concepts.values()) for i in two_held_out(k)}
    with_tone = {code for codes in tones.values() for code in codes}
    people = [code for codes in concepts.values() for code in codes]
    known = {code for pictures in drawn.values() for code, _ in pictures}
    wanted = [code for code in emoji if code in known and code not in with_tone] + people + list(others)
    number = {code: i for i, code in enumerate(wanted)}

    files, styles = {}, {}
    for style in STYLES:
        earlier = [dict(drawn[name]) for name in style.unlike]
        ships = [
            (code, pixels)
            for code, pixels in drawn[style.name]
            if code in number
            and (style.name != NEVER_TRAINED or code in held_out or code not in with_tone)
            and not any(code in e and repeats(pixels, e[code]) for e in earlier)
        ]
        ships = one_name_each(ships)
        data = mosaic([pixels for _, pixels in ships])
        files[f"{style.name}.webp"] = data
        styles[style.name] = {
            "title": style.title,
            "licence": style.licence,
            "family": style.family,
            "file": f"{style.name}.webp",
            "sha256": hashlib.sha256(data).hexdigest(),
            "cells": [number[code] for code, _ in ships],
            **({} if style.role == "train" else {style.role: True}),
        }
    table = []
    for k, (name, codes) in enumerate(concepts.items()):
        cells = [number[code] for code in codes]
        table.append({"name": name, "emoji": cells, "held_out": [cells[i] for i in two_held_out(k)]})
    entries = [everything[code] for code in wanted]
    head = {"size": SIZE, "columns": COLUMNS}
    words = filler_words(folder, entries)
    files["emoji.json"] = as_json(head, emoji=entries, people=table, styles=styles, words=words).encode()
    return files


def as_json(head, **tables):
    """JSON with one table row per line, so that a rebuild shows as a readable difference."""
    dump = lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    lines = [f"{dump(key)}:{dump(value)}" for key, value in head.items()]
    for key, table in tables.items():
        if isinstance(table, dict):
            rows, ends = [f"{dump(k)}:{dump(v)}" for k, v in table.items()], "{}"
        else:
            rows, ends = [dump(row) for row in table], "[]"
        lines.append(f"{dump(key)}:{ends[0]}\n" + ",\n".join(rows) + f"\n{ends[1]}")
    return "{" + ",\n".join(lines) + "}\n"


def main(arguments=None):
    """The command line: see the top of this file."""
    parser = argparse.ArgumentParser(
        description="Build the emoji mosaics from the artists' packages.",
        epilog="example: python benchmarks/emoji/build_emoji.py --out build/emoji",
    )
    parser.add_argument("--out", default=FOLDER, type=Path, help="folder to write to (default: the one that ships)")
    parser.add_argument("--tarballs", type=Path, help="folder where the packages lie or are kept (default: fetch)")
    options = parser.parse_args(arguments)
    if options.tarballs:
        options.tarballs.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            files = build(options.tarballs or scratch)
    except ValueError as error:
        sys.exit(str(error))
    options.out.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        beside = options.out / (name + ".part")
        beside.write_bytes(data)
        os.replace(beside, options.out / name)
        print(f"{options.out / name}  {len(data):,} bytes")


if __name__ == "__main__":
    main()
