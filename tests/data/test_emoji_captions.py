"""What emoji are called: names that tell each from all others, and descriptions that many share."""

import pytest

from miniclip.data import emoji_data, emoji_names
from miniclip.data.emoji_captions import DESCRIPTION_TEMPLATES, KINDS, PROMPTS, TEMPLATES, captions, descriptions


@pytest.fixture(scope="module")
def entries():
    return emoji_names()


def test_every_kind_of_emoji_has_words(entries):
    assert {entry["subgroup"] for entry in entries if entry["char"]} <= set(KINDS)
    assert not {"icons", "miscellaneous", "applications"} & set(KINDS)  # of which nothing can be said


def test_captions_begin_with_the_name_and_hold_it(entries):
    for entry in entries:
        texts = captions(entry)
        assert texts[0] == entry["name"]
        assert all(text.replace(" with ", ": ").startswith(entry["name"].replace(" with ", ": ")) for text in texts)


def test_descriptions_are_shared_and_none_is_blank(entries):
    words_of = {entry["name"]: entry["tags"] + entry["keywords"] for entry in entries}
    of = {entry["name"]: descriptions(entry, words_of) for entry in entries}
    assert all(text.strip() == text != "" for texts in of.values() for text in texts)
    assert {"fruit", "food", "something to eat"} <= set(of["banana"]) and "a vehicle" in of["automobile"]
    assert "furniture" in of["chair"] and "sofa" in of["couch and lamp"]  # keywords, and none of their tags
    assert "bewhiskered" in of["man: beard"] and "null" in of["keycap: 0"]
    dark = set(of["woman singer: dark skin tone"])
    assert set(words_of["woman singer"]) <= dark and "dark skin tone" in dark
    assert all(of[entry["name"]] for entry in entries if entry["char"])


def test_prompts_are_phrases_that_captions_stand_in():
    assert set(PROMPTS) <= set(TEMPLATES) and TEMPLATES[0] == PROMPTS[0] == "{}"
    assert len(set(TEMPLATES)) == len(TEMPLATES) and len(set(DESCRIPTION_TEMPLATES)) == len(DESCRIPTION_TEMPLATES)
    training, exams = emoji_data(size=8)
    assert training.named and training.templates == TEMPLATES and len(training.descriptions) == len(training.captions)
    assert all(exam.templates == PROMPTS for exam in exams)
