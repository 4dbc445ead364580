"""Which drawings of Debian's package openclipart-svg ship, and what they are called.

openclipart.json is the choice, made by eye from sheets of all drawings at 64 pixels: {name: files}. The titles
in the files are often in Italian, the collection's or the author's name, or another file's, so a drawing is
called what a person sees in it: in a few lower-case words, without article or number. Where that is an emoji's
name, or its plural, it is a drawing of that emoji and has its name; every other name becomes an entry of its own
behind the emoji. Several drawings may share a name.

Left out: links to another drawing and near-duplicates (at 16 x 16 pixels on white closer than 6 grey levels, root
mean square), stars drawn by a program, flags, arms and maps of places, gradients, patterns, borders, the toolbar
icons of desktop themes, playing cards, words and logos, figures that others own, portraits, nakedness, symbols of
hate, what cannot be read at 64 pixels, files that do not say themselves that they are in the public domain, and
everything with Tux in its metadata. DATA_LICENSES has the numbers.
"""

import html
import json
import re
from collections import Counter
from pathlib import Path

from emoji_packages import read_members

TABLE = Path(__file__).parent / "openclipart.json"
KINDS = {
    "bodypart": "body parts",
    "CD_Player": "music",
    "hummers": "vehicles",
    "logos": "office",
    "map_symbols": "signs and symbols",
    "pantyhose": "clothing",
    "smilies": "smileys",
    "stickmen": "stick figures",
    "unsorted": "miscellaneous",
}
NO_TAGS = {"and", "application", "clip", "hash", "icon", "icons", "image", "images", "symbol", "symbols", "unsorted"}


def read_table():
    """{name: [files]} of the drawings that ship, files as below the package's folder svg."""
    return json.loads(TABLE.read_text(encoding="utf-8"))


def read_concepts(package_file, folder, emoji):
    """{code: entry} of the names that are no emoji's, in the form of the catalogue's entries for emoji.

    Tags are the keywords in the files' metadata, the commonest first, where `emoji`'s names and tags or our
    names hold their words: this leaves out authors and other languages. The subgroup is the folder of most files.
    """
    names = {entry["name"] for entry in emoji.values()}
    table = {name: paths for name, paths in read_table().items() if name not in names}
    words = {word for entry in emoji.values() for text in [entry["name"], *entry["tags"]] for word in text.split()}
    words |= {word for name in table for word in name.split()}
    members = read_members(package_file, {folder + path for paths in table.values() for path in paths}.__contains__)
    entries = {}
    for name, paths in table.items():
        tags = Counter(tag for path in paths for tag in keywords(members[folder + path]))
        known = [tag for tag, _ in tags.most_common() if set(tag.split()) <= words and tag not in {name, *NO_TAGS}]
        kind = Counter(path.split("/")[-2] for path in paths).most_common(1)[0][0]
        code = "openclipart-" + re.sub("[^a-z0-9]+", "-", name.replace("’", "")).strip("-")
        entries[code] = {
            "char": "",
            "code": code,
            "name": name,
            "tags": known,
            "keywords": [],
            "group": "openclipart",
            "subgroup": re.sub("[ _]", "-", KINDS.get(kind, kind)),
        }
    return entries


def keywords(svg):
    """The keywords in an SVG file's metadata, in lower case."""
    subject = re.search(r"<dc:subject\b.*?</dc:subject>", svg.decode("utf-8", "replace"), re.DOTALL)
    items = re.findall(r"<rdf:li\b[^>]*>([^<]*)</rdf:li>", subject.group()) if subject else []
    return [tag for tag in (html.unescape(item).strip().lower() for item in items) if len(tag) > 2]
