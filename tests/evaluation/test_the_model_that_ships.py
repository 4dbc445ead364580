"""What the model that ships does, on pictures by an artist that no training step has seen."""

import numpy as np
import pytest

import miniclip
from miniclip.data import load_data
from miniclip.data.emoji_captions import TEMPLATES
from miniclip.evaluation import calibrated, draw_tasks, evaluate, reliability
from miniclip.training import TrainConfig, preset
from miniclip.tree import flatten

pytestmark = pytest.mark.slow

READ = "{}", "an emoji of {}", "a drawing of {}", "a sticker of {}", "it shows {}"
UNREAD = "a sketch of {}", "a cartoon of {}", "a depiction of {}", "look at {}", "my favourite {}"


@pytest.fixture(scope="module")
def asked():
    """The model, and its exams: Fluent, and combinations of gender and skin tone that nobody drew in training."""
    return miniclip.load("emoji"), load_data("emoji")[1]


def test_it_names_pictures_by_an_unseen_artist(asked):
    clip, exams = asked
    found = {exam.name: evaluate(clip, exam) for exam in exams}
    artist = found["unseen artist"]
    assert artist["top1"] > 0.73 and artist["top5"] > 0.885
    assert abs(artist["ensemble_top1"] - artist["top1"]) < 0.01
    for style in ("twemoji", "noto"):
        assert found[f"unseen combination: {style}"]["top1"] >= 0.90


def test_it_reads_fluents_skin_as_darker(asked):
    """Why its combinations are hard: its tones are taken for half a step and more too dark, those of others are not."""
    clip, exams = asked
    for exam in exams[1:]:
        scores = clip.encode_image(exam.pictures) @ clip.encode_text(exam.names).T
        given = np.take_along_axis(scores, exam.candidates, 1).argmax(1)  # man light to dark, then woman
        truth = (exam.candidates == exam.answer[:, None]).argmax(1)
        gender, darker = np.mean(given // 5 == truth // 5), np.mean(given % 5 - truth % 5)
        if exam.name.endswith("fluent"):
            assert gender > 0.75 and 0.5 < darker < 0.8 and np.mean(abs(given % 5 - truth % 5) <= 1) > 0.85
        else:
            assert gender > 0.98 and abs(darker) < 0.05


@pytest.fixture(scope="module")
def right(asked):
    """{prompt: the share of Fluent that is named rightly by it}"""
    clip, exams = asked
    z, found = clip.encode_image(exams[0].pictures), {}
    for prompt in READ + UNREAD:
        z_text = clip.encode_text([prompt.replace("{}", name) for name in exams[0].names])
        found[prompt] = np.mean((z @ z_text.T).argmax(1) == exams[0].answer)
    return found


COSTS_MORE = pytest.mark.xfail(strict=True, reason="it costs 12 points")


@pytest.mark.parametrize("prompt", [*READ, *UNREAD[:-1], pytest.param(UNREAD[-1], marks=COSTS_MORE)])
def test_what_a_phrase_costs(right, prompt):
    """Prompts that captions stood in are within 3 points of the best of ten, and others within 10."""
    assert (prompt in TEMPLATES) == (prompt in READ)
    assert right[prompt] > max(right.values()) - (0.03 if prompt in READ else 0.10), right


def test_what_the_worst_phrase_costs(right):
    assert min(right.values()) > max(right.values()) - 0.14, right


@pytest.mark.parametrize("names", [30, 300, 1500])
def test_it_is_as_sure_as_it_is_right(asked, names):
    """Among so many names, one of which is right: its confidence and its accuracy differ by 0.05 at most.

    With "none of these" beside them, and right in half of the questions, by 0.055: among 1,500 it is 0.051.
    """
    clip, exams = asked
    cosines = clip.encode_image(exams[0].pictures) @ clip.encode_text(exams[0].names).T
    fitted, tasks = calibrated(clip), draw_tasks(cosines.astype(float), exams[0].answer, counts=(names,))
    (row,) = reliability(tasks, fitted["scale"], fitted["none"])
    assert row["named_ece"] <= 0.05 and row["ece"] <= 0.055, row


def test_it_is_what_the_preset_trains(asked):
    """In two stages: the presets may not move on without it, nor it without the presets."""
    clip, _ = asked
    first, second = clip.about["from"], clip.about
    kept = {name: first["config"][name] for name in ("model", "vocab_size", "context_length")}
    for config, step, wanted in (
        (first["config"], first["step"], preset("full")),
        (second["config"] | kept, second["step"], preset("words")),
    ):
        assert TrainConfig.from_json(config) == wanted and step == wanted.steps


def test_its_file_is_small(asked):
    """Four million parameters, in half precision on disk and single in memory."""
    clip, _ = asked
    assert sum(leaf.size for leaf in flatten(clip.params).values()) < 5e6
    assert all(leaf.dtype == np.float32 for leaf in flatten(clip.params).values())
