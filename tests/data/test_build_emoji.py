"""The builder of the emoji: its packages are checked and read in memory, and what ships is what it builds."""

import io
import json
import os
import shutil
import tarfile

import build_emoji
import numpy as np
import openclipart
import pytest
from emoji_drawings import icon_table, inked, squared
from emoji_packages import fetch, normal_code, read_members
from emoji_sources import KEYWORDS, NAMES, STYLES, WORDS, Package
from PIL import Image

from miniclip.data import emoji

EMOJI = 2264  # the entries behind them are Openclipart's


@pytest.mark.parametrize(
    "code, normal",
    [("0023-FE0F-20E3", "23-20e3"), ("1F468-200D-1F692", "1f468-200d-1f692"), ("2764_fe0f", "2764"), ("00a9", "a9")],
)
def test_code_points_are_normalised(code, normal):
    assert normal_code(code) == normal


def test_codes_are_those_of_the_characters():
    for entry in emoji.emoji_names()[:EMOJI]:
        assert normal_code("-".join(f"{ord(c):x}" for c in entry["char"])) == entry["code"]


def test_the_licences_name_every_style():
    text = (emoji.FOLDER.parent / "DATA_LICENSES").read_text(encoding="utf-8")
    for package in [style.package for style in STYLES] + [NAMES, KEYWORDS, WORDS]:
        assert f"{package.name} {package.version}" in text
    for style in STYLES:
        assert f"\n{style.name} " in text and f"{style.name}.webp" in text
    assert [style.name for style in STYLES] == list(emoji.read_catalogue()["styles"])
    free = {"CC-BY-4.0", "CC-BY-3.0", "CC-BY-SA-4.0", "Apache-2.0", "OFL-1.1", "MIT", "public domain"}
    assert {style.licence for style in STYLES} <= free  # none forbids changes or trade


def test_of_emojilibs_keywords_only_new_words_are_taken():
    entry = {"label": "Hot dog", "tags": ["frankfurter", "sausage"]}
    said = ["hot_dog", "dog", "Fast_Food", "sausage", "fast_food", ":D", "100", "x", "new-york", "world’s", "it's good"]
    assert build_emoji.more_words(entry, said) == ["fast food", "new-york", "it's good"]


def test_a_tarball_with_another_checksum_is_refused(tmp_path):
    package = Package("@some/one", "1.0.0", "0" * 64)
    (tmp_path / package.file).write_bytes(b"something else")
    with pytest.raises(ValueError, match="some-one-1.0.0.tgz has SHA-256 .* not the pinned 000"):
        fetch(package, tmp_path)


@pytest.mark.parametrize("registry, client", [("npm", "npm"), ("Debian", "apt-get")])
def test_a_client_that_is_missing_is_named(tmp_path, monkeypatch, registry, client):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    package = Package("one", "1:2.0", "0" * 64, registry)
    with pytest.raises(ValueError, match=f"{client} is not installed; .* --tarballs a folder with {package.file}"):
        fetch(package, tmp_path)


def test_a_debian_package_is_read(tmp_path):
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:xz") as tar:
        member = tarfile.TarInfo("./usr/a.svg")
        member.size = 3
        tar.addfile(member, io.BytesIO(b"abc"))
    archive = b"!<arch>\n"
    for name, data in (("debian-binary", b"2.0"), ("control.tar.xz", b"x" * 8), ("data.tar.xz", inner.getvalue())):
        archive += (
            f"{name:16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
        )
    (tmp_path / "a.deb").write_bytes(archive)
    assert read_members(tmp_path / "a.deb", lambda name: True) == {"./usr/a.svg": b"abc"}
    (tmp_path / "b.deb").write_bytes(archive[: 8 + 64])
    with pytest.raises(ValueError, match="no data.tar"):
        read_members(tmp_path / "b.deb", lambda name: True)


def test_the_table_of_openclipart_is_what_ships():
    """Every drawing once, under the name of its entry, in the table's order."""
    table, catalogue = openclipart.read_table(), emoji.read_catalogue()
    files = [path for paths in table.values() for path in paths]
    names = [catalogue["emoji"][i]["name"] for i in catalogue["styles"]["openclipart"]["cells"]]
    assert len(set(files)) == len(files) and names == [name for name, paths in table.items() for _ in paths]
    assert not [path for path in files if "tux" in path.lower() or "/flags/" in path or "/stars/" in path]


def test_keywords_are_read_from_the_subject_alone():
    svg = (
        b"<dc:subject><rdf:Bag>\n<rdf:li> Bird </rdf:li><rdf:li/><rdf:li>a</rdf:li><rdf:li>salt &amp; sea</rdf:li>"
        b"</rdf:Bag></dc:subject><dc:creator><rdf:li>somebody</rdf:li></dc:creator>"
    )
    assert openclipart.keywords(svg) == ["bird", "salt & sea"] and openclipart.keywords(b"<svg/>") == []


def test_icons_named_as_emoji_are_found_by_name():
    icons = {"icons": {"woman-s-hat": {}, "mans-shoe": {}, "ant": {}}, "aliases": {"t-rex": {"parent": "ant"}}}
    entries = {"1": {"name": "man’s shoe"}, "2": {"name": "T-Rex"}, "3": {"name": "bee"}}
    assert icon_table("names", icons, entries) == {"mans-shoe": "1", "t-rex": "2"}


def test_what_is_drawn_is_cut_out_of_its_page():
    page = Image.new("RGBA", (50, 90))
    page.paste((0, 0, 0, 255), (10, 20, 30, 30))
    assert inked(page) == (10, 20, 30, 30)
    picture = squared(page.crop(inked(page)))
    assert (np.argwhere(picture[..., 3] > 128).min(0) == (16, 0)).all()


def test_members_are_read_in_memory_and_links_are_not_followed(tmp_path):
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as tar:
        for name, data in (("package/a.png", b"a"), ("../../b.png", b"b"), ("/c.png", b"c")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("package/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
    found = read_members(tmp_path / "a.tgz", lambda name: name.startswith("package/"))
    assert found == {"package/a.png": b"a"}
    assert os.listdir(tmp_path) == ["a.tgz"]


def test_the_catalogue_is_written_a_row_a_line():
    shipped = (emoji.FOLDER / "emoji.json").read_text(encoding="utf-8")
    catalogue = json.loads(shipped)
    head = {key: catalogue.pop(key) for key in ("size", "columns")}
    assert build_emoji.as_json(head, **catalogue) == shipped
    assert build_emoji.__file__.endswith(emoji.BUILDER.removeprefix("python "))


@pytest.mark.slow
@pytest.mark.network
def test_what_ships_is_what_the_builder_builds(tmp_path):
    """Fetches 350 MB through npm and apt-get, or takes the packages that lie in the folder $MINICLIP_TARBALLS."""
    pytest.importorskip("resvg_py", reason="the builder draws SVG with resvg_py")
    folder = os.environ.get("MINICLIP_TARBALLS", tmp_path)
    try:
        for package in [style.package for style in STYLES] + [NAMES, KEYWORDS, WORDS]:
            fetch(package, folder)
    except ValueError as error:
        if "failed" not in str(error) and "not installed" not in str(error):
            raise
        pytest.skip(f"the packages cannot be fetched: {error}")

    built = build_emoji.build(folder)
    assert sorted(built) == sorted(file.name for file in emoji.FOLDER.iterdir())
    new, old = json.loads(built["emoji.json"]), json.loads((emoji.FOLDER / "emoji.json").read_text(encoding="utf-8"))
    for catalogue in (new, old):
        for style in catalogue["styles"].values():
            del style["sha256"]  # another libwebp may write other bytes
    assert new == old
    for name in set(built) - {"emoji.json"}:
        fresh, shipped = (decoded(data) for data in (built[name], (emoji.FOLDER / name).read_bytes()))
        assert fresh.shape == shipped.shape
        assert np.sqrt(((fresh - shipped) ** 2).mean()) < 1.0, name


def decoded(data):
    """Bytes of a mosaic -> float64 (H, W, 3) on white."""
    return build_emoji.on_white(np.asarray(Image.open(io.BytesIO(data)).convert("RGBA")))
