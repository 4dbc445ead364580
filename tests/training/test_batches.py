"""What a batch is made of: drawn from the seed and the step alone."""

import itertools
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
from runs import SMALL, some

from miniclip.backend import worker_threads
from miniclip.data import PictureSet
from miniclip.gradcheck.contract import same_bits
from miniclip.init import model_config
from miniclip.tokenizer import Tokenizer
from miniclip.training import Batches, TrainConfig, train
from miniclip.training.batches import texts_of

PLAIN = TrainConfig("resnet-micro", batch_size=20, augment_strength=0.0)


@pytest.fixture
def coloured():
    """20 things of 1 to 3 pictures and 1 to 3 captions; red says which thing a picture shows, green which one it is."""
    concept = np.repeat(np.arange(20), np.arange(20) % 3 + 1)
    pictures = np.full((len(concept), 32, 32, 4), 255, np.uint8)
    pictures[..., 0] = 10 * concept[:, None, None]
    pictures[..., 1] = 3 * np.arange(len(concept))[:, None, None]
    captions = [
        [f"{letter} thing", f"the {letter} that we like best", f"{letter}!"][: k % 3 + 1]
        for k, letter in enumerate("abcdefghijklmnopqrst")
    ]
    return PictureSet("coloured", pictures, concept, captions)


def batches_of(data, config, tokenizer=None):
    tokenizer = tokenizer or Tokenizer.train(texts_of(data), 600)
    text = {"vocab_size": tokenizer.vocab_size, "context_length": config.context_length}
    return Batches(data, tokenizer, model_config(config.model, **text), config)


def shown(batches, batch, channel):
    """The value of one channel of each picture of a batch whose pictures are of one colour, in 0..255."""
    mean, std = (batches.model_config["preprocess"][key][channel] for key in ("mean", "std"))
    return [round(float(image[channel].mean() * std + mean) * 255) for images, _ in batch for image in images]


def rows_of(batches, k):
    """The captions of a thing, as bytes of their tokens."""
    return [bytes(batches.texts.tokens(text)) for text in batches.texts.captions[k]]


def things_of(batches, batch):
    """Which things a batch's texts are about, and which its pictures (augmentation off) show."""
    owner = {row: k for k in range(len(batches.texts.captions)) for row in rows_of(batches, k)}
    return [owner[bytes(row)] for _, tokens in batch for row in tokens], [red // 10 for red in shown(batches, batch, 0)]


def same_batches(a, b):
    return len(a) == len(b) and all(same_bits(x, y) for one, other in zip(a, b) for x, y in zip(one, other))


def test_no_thing_comes_twice_and_each_text_is_its_pictures(coloured):
    batches = batches_of(coloured, replace(PLAIN, batch_size=13, micro_batch=4))
    seen, texts = set(), set()
    for step in range(60):
        batch = batches(step)
        assert [len(tokens) for _, tokens in batch] == [len(images) for images, _ in batch]
        assert sum(len(tokens) for _, tokens in batch) == 13
        assert all(images.dtype == np.float32 and images.shape[1:] == (3, 32, 32) for images, _ in batch)
        told, drawn = things_of(batches, batch)
        assert told == drawn and len(set(told)) == 13
        seen |= set(told)
        texts |= {bytes(row) for _, tokens in batch for row in tokens}
    assert seen == set(range(20))
    assert len(texts) == sum(map(len, coloured.captions))  # every caption is drawn some time


def test_micro_batches_are_of_nearly_one_size(coloured):
    """A last one of one picture would have no statistics to normalise with."""
    for batch_size, micro_batch, sizes in ((13, 4, [4, 3, 3, 3]), (17, 16, [9, 8]), (12, 4, [4, 4, 4]), (3, 8, [3])):
        batches = batches_of(coloured, replace(PLAIN, batch_size=batch_size, micro_batch=micro_batch))
        assert [len(tokens) for _, tokens in batches(0)] == sizes


def test_plain_names_alone(coloured):
    batches = batches_of(replace(coloured, named=True), replace(PLAIN, plain_names=1.0))
    plain = {rows_of(batches, k)[0] for k in range(20)}
    assert {bytes(row) for step in range(5) for _, tokens in batches(step) for row in tokens} == plain


def test_without_names_all_captions_are_read_whatever_is_asked(coloured):
    batches = batches_of(coloured, replace(PLAIN, plain_names=1.0))
    every = {row for k in range(20) for row in rows_of(batches, k)}
    assert {bytes(row) for step in range(60) for _, tokens in batches(step) for row in tokens} == every


def test_a_template_is_read_as_if_it_were_written_out(coloured):
    templates = ["{}", "a drawing of {} , in ink", "{} 's", "it: {}"]
    data = replace(coloured, templates=templates)
    tokenizer = Tokenizer.train(texts_of(data), 700)
    batches = batches_of(data, PLAIN, tokenizer)
    phrases = [template.replace("{}", text) for texts in data.captions for text in texts for template in templates]
    assert {bytes(row) for step in range(150) for _, tokens in batches(step) for row in tokens} == {
        bytes(row) for row in tokenizer(phrases, PLAIN.context_length)
    }


def test_which_descriptions_are_true_of_which_pictures(coloured):
    """Of each text, all pictures whose thing has every description in it; its own picture among them."""
    descriptions = [
        [word for word, n in (("even", 2), ("third", 3), ("fourth", 4)) if k % n == 0] + ["thing"] for k in range(20)
    ]
    data = replace(coloured, descriptions=descriptions, description_templates=["{}", "something {}"])
    tokenizer = Tokenizer.train(texts_of(data), 700)
    batches = batches_of(data, replace(PLAIN, descriptions=0.7, plain_names=0.3), tokenizer)
    words, several = set(), 0
    for step in range(40):
        batch, truth = batches(step), np.zeros((20, 20), bool)
        truth[tuple(batches.positives(step)[0])] = True
        things = [red // 10 for red in shown(batches, batch, 0)]
        texts = [tokenizer.decode(row[1 : list(row).index(tokenizer.end_token)]) for _, t in batch for row in t]
        for column, text in enumerate(texts):
            said = {word for word in ("even", "third", "fourth", "thing") if word in text.split()}
            own = any(caption in text for caption in (" like ", "!")) or text.split()[0] in "abcdefghijklmnopqrst"
            true = [k == things[column] if own else said <= set(descriptions[k]) for k in things]
            assert truth[:, column].tolist() == true, text
            words |= set() if own else said
            several += not own and sum(true) > 1
    assert words == {"even", "third", "fourth", "thing"} and several > 100
    assert batches_of(data, PLAIN, tokenizer).positives(0) == [None]


def test_a_description_stands_beside_each_caption(coloured):
    """Behind each picture's caption one of its descriptions, or a caption again of a thing that has none."""
    descriptions = [[f"kind {k % 3}", "thing of all"] if k < 15 else [] for k in range(20)]
    data = replace(coloured, descriptions=descriptions, description_templates=["{}", "something {}"])
    tokenizer = Tokenizer.train(texts_of(data), 700)
    config = replace(PLAIN, description_weight=0.3, micro_batch=7)
    batches, kinds = batches_of(data, config, tokenizer), set()
    captions = [set(rows_of(batches, k)) for k in range(20)]
    for step in range(30):
        batch = batches(step)
        assert [len(tokens) for _, tokens in batch] == [14, 14, 12]
        things, tokens = [red // 10 for red in shown(batches, batch, 0)], np.concatenate([t for _, t in batch])
        assert all(bytes(row) in captions[k] for k, row in zip(things, tokens[::2]))
        truths = np.zeros((2, 20, 20), bool)
        for truth, true in zip(truths, batches.positives(step)):
            truth[tuple(true)] = True
        assert (truths[0] == np.eye(20, dtype=bool)).all()
        for column, (k, row) in enumerate(zip(things, tokens[1::2])):
            text = tokenizer.decode(row[1 : list(row).index(tokenizer.end_token)])
            said = {word for word in ("kind 0", "kind 1", "kind 2", "thing of all") if word in text}
            assert said <= set(descriptions[k]) if said else bytes(row) in captions[k] and k >= 15
            assert truths[1][:, column].tolist() == [
                said <= set(descriptions[other]) if said else other == k for other in things
            ]
            kinds |= said
    assert len(kinds) == 4
    without = batches_of(coloured, config)  # which has no descriptions: one text of each picture
    assert [len(tokens) for _, tokens in without(0)] == [7, 7, 6] and without.positives(0) == [None]


def test_random_phrases_stand_around_the_caption_of_the_picture(coloured):
    """Half of the phrases: up to four tokens of the vocabulary, "of", "of a", "a" or nothing, and the whole caption."""
    data = replace(coloured, templates=["{}", "a drawing of {}"])
    tokenizer = Tokenizer.train(texts_of(data), 700)
    config = replace(PLAIN, random_phrases=0.5)
    batches = batches_of(data, config, tokenizer)
    ids = [[tuple(tokenizer.encode(text)) for text in texts] for texts in data.captions]
    written = {tuple(tokenizer.encode(f"a drawing of {text}")) for texts in data.captions for text in texts}
    written |= {text for texts in ids for text in texts}
    links, count, random, tokens_seen = [tuple(tokenizer.encode(w)) for w in ("", "of", "of a", "a")], 0, 0, set()
    for step in range(60):
        batch = batches(step)
        things = [red // 10 for red in shown(batches, batch, 0)]
        rows = [row[1 : list(row).index(tokenizer.end_token)] for _, tokens in batch for row in tokens]
        for k, row in zip(things, map(tuple, rows)):
            count += 1
            if row in written:
                continue
            random += 1
            own = [text for text in ids[k] if text in (row[-len(text) :], row[: len(text)])]
            assert own, row
            left = len(row) - max(map(len, own))
            assert 1 <= left <= 4 + max(map(len, links)) and max(row) < tokenizer.start_token
            tokens_seen |= set(row)
    assert abs(random / count - 0.5) < 0.06 and len(tokens_seen) > 0.9 * tokenizer.start_token
    only = batches_of(coloured, config, tokenizer)  # which says no phrases: its captions are whole as they are
    assert {bytes(row) for step in range(60) for _, tokens in only(step) for row in tokens} == {
        row for k in range(20) for row in rows_of(only, k)
    }


def test_phrases_of_random_words_are_whole_words(coloured):
    """Of the random phrases 3 in 4 are one to three words, more than half with no "of" or "a" before the caption."""
    words = ["look", "so", "ten"]
    data = replace(coloured, templates=["{}", "a drawing of {}"], filler_words=words)
    tokenizer = Tokenizer.train(texts_of(data), 700)
    config = replace(PLAIN, random_phrases=1.0, random_words=0.75, plain_names=0.0)
    before = {
        f"{' '.join(some)} {link}".strip(): link
        for count in (1, 2, 3)
        for some in itertools.product(words, repeat=count)
        for link in ("", "of", "of a", "a")
    }
    batches, count, made, linked = batches_of(data, config, tokenizer), 0, 0, 0
    for step in range(60):
        batch = batches(step)
        things = [red // 10 for red in shown(batches, batch, 0)]
        rows = [row[1 : list(row).index(tokenizer.end_token)] for _, tokens in batch for row in tokens]
        for k, row in zip(things, rows):
            count += 1
            text = tokenizer.decode(row.tolist()).strip().replace(" !", "!")
            own = max((c for c in data.captions[k] if text.startswith(c) or text.endswith(c)), key=len, default=None)
            if own and text.endswith(own) and text.removesuffix(own).strip() in before:
                made += 1
                linked += bool(before[text.removesuffix(own).strip()])
            elif own and text.startswith(own) and text.removeprefix(own).strip() in before:
                made += 1
    assert abs(made / count - 0.75) < 0.06 and abs(linked / made - 0.8 * 0.6 * 0.75) < 0.06
    without = batches_of(replace(data, filler_words=[]), config, tokenizer)  # there are no words: all are tokens
    tokens_only = batches_of(data, replace(config, random_words=0.0), tokenizer)
    for step in range(5):
        for (_, tokens), (_, same) in zip(without(step), tokens_only(step)):
            assert (tokens == same).all()


def test_families_stand_side_by_side(coloured):
    family = np.arange(20) // 4
    batches = batches_of(replace(coloured, family=family), replace(PLAIN, batch_size=8))
    for step in range(20):
        drawn = [red // 10 for red in shown(batches, batches(step), 0)]
        assert sorted(np.bincount(family[drawn], minlength=5)) == [0, 0, 0, 4, 4] and len(set(drawn)) == 8


def test_the_order_of_a_batch_gives_nothing_away(coloured):
    """No part of a batch holds the longer texts: a norm's statistics of it would be a part of the answer."""
    batches = batches_of(coloured, PLAIN)
    lengths = np.array([(row != 0).sum() for step in range(200) for _, tokens in batches(step) for row in tokens])
    by_place = lengths.reshape(200, 20).mean(0)
    assert by_place.std() < 3 * lengths.std() / 200**0.5, by_place


def test_a_batch_is_a_function_of_the_seed_and_the_step_alone(coloured):
    config = TrainConfig("resnet-micro", batch_size=11, micro_batch=3, mix=0.5, seed=4)
    first, again = batches_of(coloured, config), batches_of(coloured, config)
    forwards = [first(step) for step in range(6)]
    with worker_threads(4) as pool:
        backwards = [again(step, pool.map) for step in reversed(range(6))][::-1]
    assert all(map(same_batches, forwards, backwards))
    other = batches_of(coloured, replace(config, seed=5))
    batches = [*forwards, *map(other, range(6))]
    assert not any(same_batches(a, b) for i, a in enumerate(batches) for b in batches[:i])


def test_every_micro_batch_is_augmented_in_its_own_way(coloured):
    coloured.pictures[:] = np.random.default_rng(0).integers(0, 256, coloured.pictures[0].shape)  # all the same
    batch = batches_of(coloured, TrainConfig("resnet-micro", batch_size=8, micro_batch=2))(0)
    views = [image for images, _ in batch for image in images]
    assert not any(same_bits(a, b) for i, a in enumerate(views) for b in views[:i])


def test_the_pictures_drawn_are_those_of_one_choice_a_thing(coloured):
    """All at once, but the same numbers: what was trained before is trained again to the same bits."""
    batches, seen = batches_of(coloured, replace(PLAIN, micro_batch=20, seed=6)), set()
    for step in range(30):
        rng = np.random.default_rng([6, step])
        things = rng.choice(20, 20, replace=False)
        expected = [rng.choice(np.flatnonzero(coloured.concept == k), 2)[0] for k in things]
        drawn = [green // 3 for green in shown(batches, batches(step), 1)]
        assert sorted(drawn) == sorted(expected)
        seen |= set(drawn)
    assert seen == set(range(len(coloured)))  # every picture is drawn some time


def test_by_picture_all_pictures_are_drawn_equally_often(coloured):
    batches = batches_of(coloured, replace(PLAIN, batch_size=2, by_picture=True))
    drawn = [thing for step in range(800) for thing in things_of(batches, batches(step))[0]]
    often = np.bincount(drawn, minlength=20).reshape(-1)
    three, one = (often[(np.arange(20) % 3) == k].mean() for k in (2, 0))
    assert 2.4 < three / one < 3.3  # a little below 3, as no thing comes twice in a batch


def test_captions_that_become_the_same_tokens_never_meet(coloured):
    """In another case, by other spaces, or cut to the same beginning; and each picture keeps its own captions."""
    start = "the thing that we like best of all and that goes on and on"
    captions = [
        ["A dog", "rex"],
        ["a  dog"],
        [f"{start} for ever"],
        [f"{start} until now", "a cat"],
        ["A cat"],
        ["fox"],
    ]
    captions += coloured.captions[6:]
    data = PictureSet("coloured", coloured.pictures, coloured.concept, captions)
    config = replace(PLAIN, batch_size=17, context_length=8)
    with pytest.warns(UserWarning, match="was cut to 8") if not Tokenizer._warned_of_cutting else nullcontext():
        batches = batches_of(data, config)
    linked = [{0, 1}, {2, 3, 4}]
    seen = set()
    for step in range(60):
        batch = batches(step)
        drawn = [red // 10 for red in shown(batches, batch, 0)]
        rows = [bytes(row) for _, tokens in batch for row in tokens]
        assert len(set(rows)) == 17 and all(len(things & set(drawn)) == 1 for things in linked)
        for k, row in zip(drawn, rows):
            assert row in rows_of(batches, k)
        seen |= set(drawn)
    assert seen == set(range(20))
    with pytest.raises(ValueError, match="a batch of 18 is larger than the 17 different captions"):
        batches_of(data, replace(config, batch_size=18))


def test_too_little_data_is_refused_and_leaves_no_trace(coloured, tmp_path):
    for captions, batch_size, sentence in (
        (1, 8, "coloured has 1 caption to learn; a contrast needs at least two"),
        (5, 6, "a batch of 6 is larger than the 5 different captions of coloured; choose a batch of at most 5"),
    ):
        with pytest.raises(ValueError, match=sentence):
            config = replace(SMALL, batch_size=batch_size)
            train(some(coloured, captions), config, out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_thing_without_a_picture_is_not_drawn(coloured):
    """Captions may outnumber the pictures, as where a style is held out."""
    rows = coloured.concept != 7
    data = PictureSet("coloured", coloured.pictures[rows], coloured.concept[rows], coloured.captions)
    batches = batches_of(data, replace(PLAIN, batch_size=19))
    assert sorted(things_of(batches, batches(0))[0]) == [k for k in range(20) if k != 7]
    with pytest.raises(ValueError, match="a batch of 20 is larger than the 19 "):
        batches_of(data, PLAIN)
