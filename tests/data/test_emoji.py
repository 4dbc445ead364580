"""The emoji: what is trained on, what never is, and one clear sentence where a file is damaged."""

import re
from collections import Counter

import numpy as np
import pytest

from miniclip.data import emoji, emoji_data, emoji_names, emoji_pictures

TONES = ("light", "medium-light", "medium", "medium-dark", "dark")
RED = {"1f34e", "2764", "1f534", "1f345"}  # apple, heart, circle, tomato


@pytest.fixture(scope="module")
def data():
    return emoji_data()


@pytest.fixture(scope="module")
def shown(data):
    """The bytes of every training picture."""
    return {pixels.tobytes() for pixels in data[0].pictures}


def test_filler_words_are_in_no_name(data):
    words = data[0].filler_words
    named = {word for entry in emoji_names() for word in re.findall("[a-z]+", entry["name"].lower())}
    assert len(words) > 3000 and sorted(set(words)) == words and not named & set(words)
    assert all(re.fullmatch("[a-z]+", word) for word in words)


@pytest.fixture
def shipped_copy(tmp_path, monkeypatch):
    """A folder of links to the shipped files, which a test may replace."""
    for file in emoji.FOLDER.iterdir():
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.setattr(emoji, "FOLDER", tmp_path)
    forget()
    yield tmp_path
    forget()


def forget():
    emoji.read_catalogue.cache_clear()
    emoji.read_style.cache_clear()


def replace(path, data):
    path.unlink()
    path.write_bytes(data)


def test_names_are_unique():
    for key in ("code", "name"):
        assert len({entry[key].lower() for entry in emoji_names()}) == len(emoji_names())
    drawn = [entry["char"] for entry in emoji_names() if entry["group"] != "openclipart"]
    assert len(set(drawn)) == len(drawn) == 2264 and "" not in drawn
    assert not {entry["group"] for entry in emoji_names()} & {"component", "flags"}


def test_counts_and_names(data):
    training, exams = data
    assert [(exam.name, len(exam), len(exam.names)) for exam in exams] == [
        ("unseen artist", 1586, 1586),
        ("unseen combination: fluent", 124, 620),
        ("unseen combination: twemoji", 124, 620),
        ("unseen combination: noto", 124, 620),
    ]
    assert len(training.styles) == 11 and len(training) > 12_000 and "fluent" not in training.styles
    assert len(emoji.read_catalogue()["people"]) == 62
    assert not any("skin tone" in name for name in exams[0].names)
    # Every question about the unseen artist can have been learned.
    assert set(exams[0].names) <= {texts[0] for texts in training.captions}
    assert np.unique(training.concept).size == len(training.captions)


def test_all_that_ships_is_small():
    files = [*emoji.FOLDER.iterdir(), emoji.FOLDER.parent / "DATA_LICENSES"]
    assert sum(file.stat().st_size for file in files) < 16_000_000


@pytest.mark.parametrize("style", list(emoji.read_catalogue()["styles"]))
def test_pictures_of_every_style(style, data, shown):
    pictures, codes = emoji_pictures(style)
    assert pictures.shape == (len(codes), 64, 64, 4) and pictures.dtype == np.uint8
    alpha = pictures[..., 3]
    assert (alpha.reshape(len(codes), -1).max(1) > 100).all()  # nothing is empty
    assert (alpha < 10).mean() > 0.05  # and the ground is transparent
    # A picture and its name belong together.
    if style in ("twemoji", "noto", "emojione", "emojione-2014", "fxemoji", "fluent"):
        for pixels, code in zip(pictures, codes):
            if code in RED:
                red, green, blue = pixels[pixels[..., 3] > 200][:, :3].mean(0)
                assert red > 1.5 * max(green, blue), code
    # Nothing of an exam is trained on, nor a held-out combination in any style.
    code_of = {entry["name"]: entry["code"] for entry in emoji_names()}
    held_out = {code_of[exam.names[row]] for exam in data[1][1:] for row in exam.answer}
    trained = {code for pixels, code in zip(pictures, codes) if pixels.tobytes() in shown}
    by_default = not {"exam", "optional"} & set(emoji.about(style))
    assert bool(trained) == by_default and not trained & held_out


@pytest.mark.parametrize("exam", ["fluent", "game-icons"])
@pytest.mark.parametrize("hold_out_style", [None, "twemoji", "game-icons"])
def test_training_on_an_exam_is_refused(exam, hold_out_style):
    for styles in ([exam], ["noto", exam]):
        with pytest.raises(ValueError, match=f"'{exam}' cannot be trained on, for it is an exam"):
            emoji_data(styles, hold_out_style)


def test_the_second_exam_is_held_out_as_fluent_is(data, monkeypatch):
    blank = lambda style, size: np.zeros((len(emoji.about(style)["cells"]), 1, 1, 4), np.uint8)
    monkeypatch.setattr(emoji, "read_style", blank)  # which pictures, not what is on them
    training, exams = emoji_data(hold_out_style="game-icons")
    assert training.styles == data[0].styles and len(training) == len(data[0])
    assert (exams[0].name, len(exams[0]), len(exams[0].names)) == ("unseen artist", 494, 494)
    assert [exam.name for exam in exams[1:]] == ["unseen combination: twemoji", "unseen combination: noto"]


def test_optional_styles_are_trained_on_where_they_are_named(data):
    training, exams = emoji_data(["noto", "emojione-mono", "openclipart"], size=8)
    assert training.styles == ["noto", "emojione-mono", "openclipart"]
    assert "emojione-mono" in data[0].styles and "openclipart" not in data[0].styles
    assert not {entry["name"] for entry in emoji_names() if entry["group"] == "openclipart"} & set(exams[0].names)
    drawings = Counter(training.concept[training.style == 2].tolist())
    assert len(drawings) == 1412 and sum(drawings.values()) == 2555  # a style may draw one thing more than once
    with pytest.raises(ValueError, match="'emojione-mono' cannot be trained on, for its artist is held out"):
        emoji_data(["emojione-mono"], hold_out_style="emojione")


def test_names_of_openclipart_are_words_and_stand_behind_the_emoji():
    others = emoji_names()[2264:]
    assert {entry["group"] for entry in others} == {"openclipart"}
    assert "openclipart" not in {entry["group"] for entry in emoji_names()[:2264]}
    for entry in others:
        assert re.fullmatch(r"[a-z]+([ ’-][a-z]+)*", entry["name"])
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", entry["subgroup"])
        assert entry["code"] == "openclipart-" + entry["name"].replace("’", "").replace(" ", "-")
        assert not {"openmoji", "fluent", "symbola", "tux"} & set(" ".join(entry["tags"]).split())


def test_held_out_combinations_are_in_no_caption_and_balanced(data):
    training, exams = data
    answers = {exam.names[row] for exam in exams[1:] for row in exam.answer}
    assert len(answers) == 124 and not answers & {text for texts in training.captions for text in texts}
    assert sum(name.startswith("man ") for name in answers) == 62
    tones = Counter(name.split(": ")[1].removesuffix(" skin tone") for name in answers)
    assert set(tones) == set(TONES) and max(tones.values()) - min(tones.values()) <= 2


def test_candidates_are_the_ten_captions_of_the_concept(data):
    for exam in data[1][1:]:
        assert exam.candidates.shape == (124, 10)
        for row, candidates in zip(exam.answer, exam.candidates):
            concept = exam.names[row].split(":")[0].removeprefix("wo").removeprefix("man ")
            ten = [f"{who} {concept}: {tone} skin tone" for who in ("man", "woman") for tone in TONES]
            assert row in candidates and [exam.names[i] for i in candidates] == ten


def test_a_style_held_out_takes_its_family_along_and_leaves_fluent_alone(shipped_copy):
    (shipped_copy / "fluent.webp").unlink()
    training, exams = emoji_data(hold_out_style="noto")
    others = {"twemoji", "twemoji-2016", "emojione", "emojione-2014", "emojione-mono", "fxemoji", "streamline"}
    assert set(training.styles) == others
    assert [exam.name for exam in exams] == ["unseen artist", "unseen combination: noto", "unseen combination: twemoji"]
    assert len(exams[0]) > 1600
    with pytest.raises(ValueError, match="'blob' cannot be trained on"):
        emoji_data(styles=["blob"], hold_out_style="noto")


def test_chosen_styles_and_size():
    training, exams = emoji_data(styles=["noto", "noto-line"], size=16)
    assert training.styles == ["noto", "noto-line"] and training.pictures.shape[1:] == (16, 16, 4)
    assert [exam.name for exam in exams[1:]] == ["unseen combination: fluent", "unseen combination: noto"]
    assert all(exam.pictures.shape[1:] == (16, 16, 4) for exam in exams)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: emoji_data(styles=["nato"]), "no emoji style 'nato'; there are twemoji"),
        (lambda: emoji_data(hold_out_style="nato"), "no emoji style 'nato'; there are twemoji"),
        (lambda: emoji_pictures("nato"), "no emoji style 'nato'; there are twemoji"),
        (lambda: emoji_data(styles=[]), "name at least one"),
        (lambda: emoji_data(size=0), "size 0"),
    ],
)
def test_unknown_style_and_size_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "damage",
    [lambda b: b[:1000], lambda b: b"", lambda b: b[:-1] + b"x", lambda b: b[:5000] + bytes([b[5000] ^ 1]) + b[5001:]],
)
def test_a_damaged_mosaic_gives_one_clear_sentence(shipped_copy, damage):
    path = shipped_copy / "blob.webp"
    replace(path, damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"blob.webp cannot be read .* build it again"):
        emoji_pictures("blob")


def test_a_missing_file_gives_one_clear_sentence(shipped_copy):
    (shipped_copy / "blob.webp").unlink()
    with pytest.raises(ValueError, match="blob.webp cannot be read"):
        emoji_pictures("blob")
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
        '{"size":64,"columns":48,"emoji":[],"people":[],"styles":{"noto":{"cells":[7]}},"words":[]}',
        '{"size":64,"columns":48,"emoji":[],"people":[],"styles":{}}',
        '{"size":64,"columns":48,"emoji":[],"people":[],"styles":{},"words":[1]}',
    ],
)
def test_a_damaged_catalogue_gives_one_clear_sentence(shipped_copy, text):
    replace(shipped_copy / "emoji.json", text.encode("latin-1"))
    with pytest.raises(ValueError, match="emoji.json is damaged; build it again"):
        emoji_names()
