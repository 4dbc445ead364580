"""benchmarks/descriptions.py: what is right, and how finding it is counted."""

import json

import descriptions
import numpy as np
import pytest

import miniclip
from miniclip.data import emoji_names


def test_found_counts_the_first_ten():
    """Two of the ten highest scores are right, of three that are: 2 / 3. Of twenty, ten can be found."""
    scores, right = -np.arange(30.0), np.zeros(30, bool)
    right[[4, 9, 10]] = True
    assert descriptions.found(scores, right) == (pytest.approx(2 / 3), True)
    assert descriptions.found(-scores, right) == (0, False)
    right[:20] = True
    assert descriptions.found(scores, right) == (1, True)


def test_what_is_right_is_what_a_person_would_accept():
    entries = [entry for entry in emoji_names() if entry["char"] and "skin tone" not in entry["name"]]
    asked = descriptions.questions(entries)
    names = np.array([entry["name"] for entry in entries])
    everyday = {words: set(names[right]) for words, right in asked["everyday descriptions"].items()}
    assert len(everyday) == 40 and all(everyday.values())
    assert {"dog face", "cat face"} <= everyday["a pet at home"] and "fire engine" not in everyday["a pet at home"]
    assert {"octopus", "dolphin"} <= everyday["creatures of the ocean"]
    assert "grapes" in names[asked["words of kinds"]["fruit"]]
    for rights in asked.values():
        assert all(right.any() for right in rights.values())


def test_no_description_holds_the_whole_name_of_what_is_right():
    entries = [entry for entry in emoji_names() if entry["char"] and "skin tone" not in entry["name"]]
    for words, right in descriptions.questions(entries)["everyday descriptions"].items():
        for entry in (entry for entry, is_right in zip(entries, right) if is_right):
            assert entry["name"].lower() != words


def test_words_are_counted_without_their_plural():
    assert descriptions.words_of("Farm animals, 2 buses") == {"farm", "animals", "animal", "buses", "buse"}


def test_an_oracle_finds_all_and_the_table_says_so(monkeypatch, capsys):
    """Embeddings that say what is right: all is found."""
    pictures, codes = descriptions.emoji_pictures("noto")
    known = {entry["code"]: entry for entry in emoji_names()}
    rows = [row for row, code in enumerate(codes) if "skin tone" not in known[code]["name"]][:200]
    monkeypatch.setattr(descriptions, "emoji_pictures", lambda _: (pictures[rows], [codes[row] for row in rows]))
    asked = descriptions.questions([known[codes[row]] for row in rows])
    asked = {
        kind: {words: right for words, right in questions.items() if right.any()} for kind, questions in asked.items()
    }
    monkeypatch.setattr(descriptions, "questions", lambda _: asked)
    truth = {tuple(questions): np.array(list(questions.values()), float) for questions in asked.values()}

    class Oracle:
        def encode_image(self, pictures):
            return np.eye(len(pictures))

        def encode_text(self, texts):
            return truth[tuple(texts)]

    monkeypatch.setattr(miniclip, "load", lambda _: Oracle())
    descriptions.main(["--style", "noto", "--json"])
    table = json.loads(capsys.readouterr().out)
    assert table["pictures"] == 200
    for kind in asked:
        assert table[kind]["found"] == table[kind]["any"] == 1 and 0 < table[kind]["words_found"] < 1
    descriptions.main(["--style", "noto"])
    assert "100.0% (100.0%)" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [["--style", "crayon"], ["--checkpoint", "nowhere.safetensors"]])
def test_what_is_not_there_is_one_sentence(wrong, capsys):
    with pytest.raises(SystemExit) as stop:
        descriptions.main(wrong)
    said = capsys.readouterr().err
    assert stop.value.code == 2 and wrong[1] in said and said.count("\n") == 1
