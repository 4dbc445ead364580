"""The emoji: what is trained on, what never is, and that what ships is what the builder builds."""

import io
import json
import os
import shutil
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from miniclip.data.emoji_sources import NAMES, STYLES, Package

from miniclip.data import build_emoji, emoji, emoji_packages
from miniclip.data.dataset import Evaluation, PictureSet, nearest_pixel_baseline
from miniclip.data.emoji import emoji_data, emoji_names, emoji_pictures, emoji_styles

TONES = ("light", "medium-light", "medium", "medium-dark", "dark")


@pytest.fixture(scope="module")
def data():
    return emoji_data()


@pytest.fixture
def shipped_copy(tmp_path, monkeypatch):
    """The shipped files in a folder of their own, which a test may damage."""
    folder = tmp_path / "mosaics"
    shutil.copytree(emoji.FOLDER, folder)
    monkeypatch.setattr(emoji, "FOLDER", folder)
    forget()
    yield folder
    forget()


def forget():
    emoji.read_catalogue.cache_clear()
    emoji.read_style.cache_clear()


def test_names_and_code_points_are_unique():
    entries = emoji_names()
    for key in ("char", "code", "name"):
        assert len({entry[key] for entry in entries}) == len(entries)
    for entry in entries:
        assert emoji_packages.normal_code("-".join(f"{ord(c):x}" for c in entry["char"])) == entry["code"]
        assert entry["group"] not in ("component", "flags")


def test_counts(data):
    training, exams = data
    assert [(exam.name, len(exam), len(exam.names)) for exam in exams] == [
        ("unseen artist", 1586, 1586),
        ("unseen combination: fluent", 124, 620),
        ("unseen combination: twemoji", 124, 620),
        ("unseen combination: noto", 124, 620),
    ]
    assert len(training.styles) == 9 and len(training) > 11_000
    assert len(emoji.read_catalogue()["people"]) == 62
    assert not any("skin tone" in name for name in exams[0].names)


def test_all_that_ships_is_small():
    folder = Path(emoji.__file__).parent
    files = [*emoji.FOLDER.iterdir(), folder / "icon_codes.json", folder / "DATA_LICENSES"]
    assert sum(file.stat().st_size for file in files) < 11_000_000


@pytest.mark.parametrize("style", [style.name for style in STYLES])
def test_every_style_is_drawn_transparent_and_square(style):
    pictures, codes = emoji_pictures(style)
    assert pictures.shape == (len(codes), 64, 64, 4) and pictures.dtype == np.uint8
    alpha = pictures[..., 3]
    assert (alpha.reshape(len(codes), -1).max(1) > 100).all()  # nothing is empty
    assert (alpha < 10).mean() > 0.05  # and the ground is not painted


def test_a_picture_and_its_name_belong_together():
    codes_of_red = {"1f34e", "2764", "1f534", "1f345"}  # apple, heart, circle, tomato
    for style in ("twemoji", "noto", "emojione", "fxemoji", "fluent"):
        pictures, codes = emoji_pictures(style)
        for pixels, code in zip(pictures, codes):
            if code in codes_of_red:
                red, green, blue = pixels[pixels[..., 3] > 200][:, :3].mean(0)
                assert red > 1.5 * max(green, blue), (style, code)


def test_the_licences_name_every_style():
    text = (Path(emoji.__file__).parent / "DATA_LICENSES").read_text(encoding="utf-8")
    for package in [style.package for style in STYLES] + [NAMES]:
        assert f"{package.name} {package.version}" in text
    for style in STYLES:
        assert f"\n{style.name} " in text and f"{style.name}.webp" in text
    assert [style.name for style in STYLES] == emoji_styles()
    assert all("SA" not in style.licence for style in STYLES)


def test_fluent_is_never_trained_on(data):
    training, _ = data
    assert "fluent" not in training.styles
    fluent = {pixels.tobytes() for pixels in emoji_pictures("fluent")[0]}
    assert not any(pixels.tobytes() in fluent for pixels in training.pictures)
    for styles in (["fluent"], ["noto", "fluent"]):
        with pytest.raises(ValueError, match="'fluent' cannot be trained on"):
            emoji_data(styles=styles)
        with pytest.raises(ValueError, match="'fluent' cannot be trained on"):
            emoji_data(styles=styles, hold_out_style="twemoji")


def test_held_out_combinations_are_absent_from_training_in_every_style(data):
    training, exams = data
    names = {texts[0] for texts in training.captions}
    answers = {exam.names[row] for exam in exams[1:] for row in exam.answer}
    assert len(answers) == 124 and not answers & names
    everything = {text for texts in training.captions for text in texts}
    assert not answers & everything
    shown = {pixels.tobytes() for pixels in training.pictures}
    code_of = {entry["name"]: entry["code"] for entry in emoji_names()}
    secret = {code_of[name] for name in answers}
    for style in training.styles:
        assert not any(pixels.tobytes() in shown for pixels, code in zip(*emoji_pictures(style)) if code in secret)


def test_held_out_combinations_are_balanced():
    catalogue = emoji.read_catalogue()
    held = [catalogue["emoji"][i]["name"] for concept in catalogue["people"] for i in concept["held_out"]]
    assert sum(name.startswith("man ") for name in held) == 62
    tones = Counter(name.split(": ")[1].removesuffix(" skin tone") for name in held)
    assert set(tones) == set(TONES) and max(tones.values()) - min(tones.values()) <= 2
    for concept in catalogue["people"]:
        names = [catalogue["emoji"][i]["name"] for i in concept["emoji"]]
        assert names == [f"{who} {concept['name']}: {tone} skin tone" for who in ("man", "woman") for tone in TONES]


def test_candidates_are_the_ten_captions_of_the_concept(data):
    for exam in data[1][1:]:
        assert exam.candidates.shape == (124, 10)
        for row, ten in zip(exam.answer, exam.candidates):
            concepts = {exam.names[i].split(":")[0].removeprefix("wo").removeprefix("man ") for i in ten}
            assert row in ten and len(concepts) == 1


def test_a_style_held_out_takes_its_family_along_and_leaves_fluent_alone(shipped_copy):
    (shipped_copy / "fluent.webp").unlink()
    training, exams = emoji_data(hold_out_style="noto")
    assert set(training.styles) == {"twemoji", "twemoji-2016", "emojione", "fxemoji", "streamline"}
    assert len(exams[0]) > 1600 and exams[1].name == "unseen combination: noto"
    assert all("fluent" not in exam.name for exam in exams)
    with pytest.raises(ValueError, match="'blob' cannot be trained on"):
        emoji_data(styles=["blob"], hold_out_style="noto")


def test_chosen_styles_and_size():
    training, exams = emoji_data(styles=["noto", "blob"], size=32)
    assert training.styles == ["noto", "blob"] and training.pictures.shape[1:] == (32, 32, 4)
    assert exams[0].pictures.shape[1:] == (32, 32, 4)
    assert [exam.name for exam in exams[1:]] == ["unseen combination: fluent", "unseen combination: noto"]


def test_every_artist_question_can_have_been_learned(data):
    training, exams = data
    assert set(exams[0].names) <= {texts[0] for texts in training.captions}
    assert np.unique(training.concept).size == len(training.captions)
    assert all("{}" in template for template in exams[0].templates)


def test_unknown_style_and_size():
    for call in (
        lambda: emoji_data(styles=["nato"]),
        lambda: emoji_data(hold_out_style="nato"),
        lambda: emoji_pictures("nato"),
    ):
        with pytest.raises(ValueError, match="no emoji style 'nato'; there are twemoji"):
            call()
    with pytest.raises(ValueError, match="name at least one"):
        emoji_data(styles=[])
    with pytest.raises(ValueError, match="size 0"):
        emoji_data(size=0)


@pytest.mark.parametrize(
    "damage",
    [lambda b: b[:1000], lambda b: b"", lambda b: b[:-1] + b"x", lambda b: b[:5000] + bytes([b[5000] ^ 1]) + b[5001:]],
)
def test_a_damaged_mosaic_gives_one_clear_sentence(shipped_copy, damage):
    path = shipped_copy / "noto.webp"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"noto.webp cannot be read .* build it again"):
        emoji_data()


def test_a_missing_file_gives_one_clear_sentence(shipped_copy):
    (shipped_copy / "noto.webp").unlink()
    with pytest.raises(ValueError, match="noto.webp cannot be read"):
        emoji_data()
    (shipped_copy / "emoji.json").unlink()
    forget()
    with pytest.raises(ValueError, match="emoji.json is missing; build it"):
        emoji_data()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        "\xff",
        '{"emoji":[],"styles":[],"people":[]}',
        '{"size":64,"columns":48,"emoji":[],"people":[],"styles":{"noto":{"cells":[7]}}}',
    ],
)
def test_a_damaged_catalogue_gives_one_clear_sentence(shipped_copy, text):
    (shipped_copy / "emoji.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match="emoji.json is damaged; build it again"):
        emoji_names()


def test_pictures_with_wrong_shapes_are_refused():
    good = np.zeros((2, 8, 8, 4), np.uint8)
    two = np.arange(2)
    PictureSet("x", good, two, [["a"], ["b"]])
    for change in (
        dict(pictures=good[..., :3]),
        dict(pictures=good[:, :5]),
        dict(pictures=good.astype(float)),
        dict(concept=two + 1),
        dict(concept=two - 1),
        dict(concept=two[:1]),
        dict(concept=two.astype("i4")),
        dict(captions=[["a"], []]),
        dict(captions=[["a"], ["b", "a"]]),
        dict(style=two, styles=["one"]),
    ):
        with pytest.raises(ValueError, match="^x: "):
            PictureSet(**{**dict(name="x", pictures=good, concept=two, captions=[["a"], ["b"]]), **change})
    for change in (
        dict(names=["a", "a"]),
        dict(answer=two + 1),
        dict(candidates=np.array([[0], [0]])),
        dict(templates=["an emoji"]),
        dict(candidates=two),
    ):
        with pytest.raises(ValueError, match="^x: "):
            Evaluation(**{**dict(name="x", pictures=good, answer=two, names=["a", "b"]), **change})


def test_nearest_pixels_find_a_copy_and_keep_to_the_candidates(rng):
    pictures = rng.integers(0, 256, (6, 16, 16, 4), dtype=np.uint8)
    training = PictureSet("x", pictures, np.arange(6), [[f"n{k}"] for k in range(6)])
    names = [f"n{k}" for k in range(6)][::-1]
    exam = Evaluation("x", pictures, np.arange(6)[::-1].copy(), names)
    assert nearest_pixel_baseline(training, exam) == 1.0
    only = Evaluation("x", pictures[[1]], np.array([5]), names, candidates=np.array([[5]]))
    assert nearest_pixel_baseline(training, only) == 1.0  # the one candidate, however unlike
    strangers = Evaluation("x", pictures, np.arange(6), list("abcdef"))
    assert nearest_pixel_baseline(training, strangers) == 0.0


def test_nearest_pixels_of_the_unseen_artist(data):
    assert 0.29 < nearest_pixel_baseline(data[0], data[1][0]) < 0.36


@pytest.mark.parametrize(
    "code, normal",
    [("0023-FE0F-20E3", "23-20e3"), ("1F468-200D-1F692", "1f468-200d-1f692"), ("2764_fe0f", "2764"), ("00a9", "a9")],
)
def test_code_points_are_normalised(code, normal):
    assert emoji_packages.normal_code(code) == normal


def test_a_tarball_with_another_checksum_is_refused(tmp_path):
    package = Package("@some/one", "1.0.0", "0" * 64)
    (tmp_path / package.tarball).write_bytes(b"something else")
    with pytest.raises(ValueError, match="some-one-1.0.0.tgz has SHA-256 .* not the pinned 000"):
        emoji_packages.fetch(package, tmp_path)


def test_members_are_read_in_memory_and_links_are_not_followed(tmp_path):
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as tar:
        for name, data in (("package/a.png", b"a"), ("../../b.png", b"b"), ("/c.png", b"c")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("package/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
    found = emoji_packages.read_members(tmp_path / "a.tgz", lambda name: name.startswith("package/"))
    assert found == {"package/a.png": b"a"}
    assert sorted(os.listdir(tmp_path)) == ["a.tgz"]


@pytest.mark.slow
@pytest.mark.network
def test_what_ships_is_what_the_builder_builds(tmp_path):
    """Fetches 320 MB through npm, or takes the tarballs that lie in the folder $MINICLIP_TARBALLS."""
    pytest.importorskip("resvg_py", reason="the builder draws SVG with resvg_py")
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    folder = os.environ.get("MINICLIP_TARBALLS", tmp_path)
    try:
        for package in [style.package for style in STYLES] + [NAMES]:
            emoji_packages.fetch(package, folder)
    except ValueError as error:
        if "failed" not in str(error):
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
    return build_emoji.on_white(np.asarray(emoji.Image.open(io.BytesIO(data)).convert("RGBA")))
