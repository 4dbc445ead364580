"""The tokenizer: what it learns, that nothing is lost, CLIP's own ids, and files that lie."""

import gzip
import hashlib
import random
import warnings
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizer import CAPTIONS, SMALL

from miniclip import tokenizer as module
from miniclip.tokenizer import BASE, END, START, Tokenizer, clean, spell, words_of

ANY_TEXT = st.text(st.characters(exclude_categories=[]))  # lone surrogates and control characters too
SHIPPED = module.files("miniclip") / "models" / "clip_merges.txt.gz"
FACTS = {  # the ids that CLIP's original tokenizer gave
    "a photo of a cat": [320, 1125, 539, 320, 2368],
    "A Photo of a CAT.": [320, 1125, 539, 320, 2368, 269],
    "": [],
    "   ": [],
    "hello world!": [3306, 1002, 256],
    "it's the dog's bone": [585, 568, 518, 1929, 568, 6195],
    "3 cats, 12 dogs & 1,000 birds": [274, 3989, 267, 272, 273, 3255, 261, 272, 267, 271, 271, 271, 4337],
    "naïve café": [1097, 35689, 563, 15304],
    "日本の猫": [39121, 44353, 21575, 163, 234, 360],
    "кошка": [27152, 13506, 141, 230, 27152, 27080],
    "\u0635\u0648\u0631\u0629 \u0642\u0637\u0629": [27271, 48242, 20915, 27585, 32050, 20915],
    "แมว": [23916, 94, 30245],
    "\U0001f469\U0001f3fd\u200d\U0001f680": [18800, 8514, 4244, 13542],
    "🇩🇪 🦄": [21531, 37659],
    "‘curly’ “quotes”": [262, 20795, 262, 257, 5808, 257],
    "schÃ¶n": [844, 7255, 333],
    "&lt;b&gt; &amp;amp; &#128512;": [283, 321, 285, 261, 7334],
    "a\tb\r\nc\x00d": [320, 321, 4480],
    "<|startoftext|>cat<|endoftext|>": [49406, 2368, 49407],
    "<|StartOfText|>": [49406],
    "<|\u017ftartoftext|>": [27, 91, 129, 123, 2002, 6659, 18169, 91, 285],
    "'\u017f '\u212a": [6, 129, 379, 262, 330],
    "ＦＵＬＬ ﬁ": [1476, 3589],
    "\ud800 x \ud83d\ude00": [39802, 343, 7334],
    "w</w>": [342, 34308, 342, 285],
    "a\u0345b\u0301": [320, 321, 136, 479],
    "½ Ⅷ ²": [33613, 158, 227, 371, 41175],
    "\u0130STANBUL": [328, 16384, 11231],
    "a\u200db\ufeff": [320, 728, 491, 321],
    "< &amp;amp;lt;": [283, 261, 3333, 282],
    "supercalifragilistic": [1642, 2857, 13093, 2076, 1561],
    "a" * 40: [23126, 23126, 23126, 23126, 6727, 19336],
}


def merge_slowly(word, tokenizer):
    """Byte-pair encoding as the definition says it: again and again, every occurrence of the oldest pair."""
    rank = {tuple(merge.split()): n for n, merge in enumerate(tokenizer.merges)}
    word = [BASE[i] for i in spell(word)]
    while pairs := [pair for pair in zip(word, word[1:]) if pair in rank]:
        oldest, new = min(pairs, key=rank.get), []
        for token in word:
            new[-1:] = [new[-1] + token] if new and (new[-1], token) == oldest else new[-1:] + [token]
        word = new
    return [tokenizer.ids[token] for token in word]


def learn_slowly(captions, vocab_size):
    """Training as the definition says it: count every pair again before every merge."""
    frequency = Counter(word for caption in captions for word in words_of(caption))
    words, tokens = {word: spell(word) for word in frequency}, list(BASE)
    while len(tokens) < vocab_size - 2:
        counts = Counter()
        for word, ids in words.items():
            for pair in zip(ids, ids[1:]):
                counts[pair] += frequency[word]
        ranked = [(-n, (a, b)) for (a, b), n in counts.items() if n > 1]
        if not ranked:
            break
        a, b = min(ranked)[1]
        for word, ids in words.items():
            new = []
            for i in ids:
                new[-1:] = [len(tokens)] if new[-1:] == [a] and i == b else new[-1:] + [i]
            words[word] = new
        tokens.append(tokens[a] + tokens[b])
    return tokens[len(BASE) :]


def test_the_example_of_the_docstring():
    tokenizer = Tokenizer.train(["hug hug pug"], 1000)
    assert tokenizer.merges == ["u g</w>", "h ug</w>"]
    assert tokenizer.vocab_size == 516  # nothing more occurs twice
    assert (tokenizer.start_token, tokenizer.end_token) == (514, 515)
    assert [tokenizer.tokens[i] for i in tokenizer.encode("Hug, pugs")] == ["hug</w>", ",</w>", *"pug", "s</w>"]


def test_the_bytes_have_the_ids_that_clip_gave_them():
    assert Tokenizer([]).vocab_size == 514 and Tokenizer([]).decode([126, 350, 126]) == "\xa1 \ufffd"
    assert [spell(word) for word in ("!!", "~", "\xa1", "\x00")] == [[0, 256], [349], [126, 350], [444]]
    assert len(set(BASE)) == 512 and not any(c.isspace() for token in BASE for c in token)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(st.text("abc ", min_size=1, max_size=30), min_size=1, max_size=6),
    st.integers(514, 560),
    st.text("abc", min_size=1, max_size=40),
)
def test_training_and_encoding_are_what_the_definition_says(captions, vocab_size, word):
    tokenizer = Tokenizer.train(captions, vocab_size)
    assert tokenizer.tokens[512:-2] == learn_slowly(captions, vocab_size)
    assert len(tokenizer.ids) == tokenizer.vocab_size <= vocab_size
    assert Tokenizer.train(captions[::-1], vocab_size).merges == tokenizer.merges
    for some in (word, *" ".join(captions).split()):
        assert tokenizer.encode(some) == merge_slowly(some, tokenizer)


def test_special_tokens_in_a_text_are_the_special_ids_and_are_not_learned_from():
    assert SMALL.encode(f"{START.upper()} {END}") == [548, 549] and SMALL.decode([548, 549]) == START + END
    assert Tokenizer.train([START + " x"] * 9, 600).merges == []
    assert Tokenizer.train(["a" * 10_000] * 9, 600).merges == []  # no word is that long


@settings(max_examples=300, deadline=None, derandomize=True)
@given(ANY_TEXT)
def test_nothing_but_spaces_and_one_odd_accent_is_lost(text):
    ids = SMALL.encode(text)
    assert all(0 <= i < SMALL.vocab_size for i in ids)
    kept = clean(text).replace(" ", "").replace("\u0345", "")
    assert SMALL.decode(np.array(ids, dtype=np.int64)).replace(" ", "") == kept


def test_a_word_of_100_000_characters():
    word = "".join(random.Random(0).choices("abcdeirs", k=100_000))
    for long in (word, "круг" * 5_000):
        assert SMALL.decode(SMALL.encode(long)) == long + " "
    assert not any(len(word) > module.LONGEST_WORD for word in SMALL._cache)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.text("ab c", max_size=30), max_size=4), st.integers(1, 40))
def test_rows_are_start_ids_end_and_zeros_cut_as_clip_cuts(texts, context_length):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = SMALL(texts, context_length)
    assert rows.shape == (len(texts), context_length) and rows.dtype == np.int64
    for row, text in zip(rows, texts):
        whole = [548, *SMALL.encode(text), 549]
        if len(whole) <= context_length:
            assert row.tolist() == whole + [0] * (context_length - len(whole))
        else:
            assert row.tolist() == whole[: context_length - 1] + [549]


def test_cutting_is_said_once_and_one_str_is_one_row(monkeypatch):
    monkeypatch.setattr(Tokenizer, "_warned_of_cutting", False)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert SMALL("a cat", 77).shape == (1, 77) and not said
        SMALL(["a cat", "z" * 90, "y" * 90], 77)
        Tokenizer.train(CAPTIONS, 520)("x" * 90, 77)
    assert len(said) == 1 and "'zzzz" in str(said[0].message) and "92 tokens" in str(said[0].message)
    assert said[0].filename == __file__


def nested(depth):
    return [nested(depth - 1)] if depth else []


NO_LIST = None, "a b", {"a": "b"}
NO_MERGES = [["a", "b"]], [1], [None], ["a"], ["a b c"], ["a xy"], ["a b", "a b"], ["a </w>"], [""], ["a \ud800"]


@pytest.mark.parametrize("merges", [*NO_LIST, *NO_MERGES, [nested(500)], [["a" * 10**6]]])
def test_a_description_of_something_else_is_refused(merges):
    with pytest.raises(ValueError, match="merge 1|merge 2|to_json") as refusal:
        Tokenizer.from_json({"type": "byte-pair encoding", "merges": merges})
    assert len(str(refusal.value)) < 300
    for description in (merges, {"merges": merges}, {"type": [], "merges": ["a b"]}):
        with pytest.raises(ValueError, match="to_json"):
            Tokenizer.from_json(description)


@pytest.mark.parametrize(
    "call",
    [
        (SMALL.encode, None),
        (SMALL.encode, b"cat"),
        (SMALL, ["a", float("nan")], 8),
        (SMALL, 3, 8),
        (SMALL, "a", 0),
        (SMALL, "a", 7.5),
        (SMALL.decode, [550]),
        (SMALL.decode, [-1]),
        (SMALL.decode, ["a"]),
        (Tokenizer.train, [], 600),
        (Tokenizer.train, "a cat", 600),
        (Tokenizer.train, ["a", 7], 600),
        (Tokenizer.train, ["a"], 513),
    ],
)
def test_bad_input_is_one_clear_sentence(call):
    with pytest.raises(ValueError, match="must be|is no id"):
        call[0](*call[1:])


def test_clips_vocabulary_ships():
    """The digest is of the text, with a header and OpenAI's first 48,894 merges, and of the packed file."""
    packed = SHIPPED.read_bytes()
    assert hashlib.sha256(packed).hexdigest() == "9f0d3084475096daab61949a23d7e0a6e209be37fb6fe7986fc8d9a53262a30e"
    assert hashlib.sha256(gzip.decompress(packed)).hexdigest() == (
        "9fd691f7c8039210e0fced15865466c65820d09b63988b0174bfe25de299051a"
    )
    licences = (module.files("miniclip") / "data" / "DATA_LICENSES").read_text(encoding="utf-8")
    assert "clip_merges.txt.gz" in licences and "Copyright (c) 2021 OpenAI" in licences


def test_clips_own_vocabulary(monkeypatch):
    monkeypatch.setattr(Tokenizer, "_warned_of_cutting", True)
    clip = Tokenizer.clip()
    assert (clip.vocab_size, clip.start_token, clip.end_token) == (49408, 49406, 49407)
    assert clip(["a photo of a cat", ""]).shape == (2, 77)
    assert clip("a photo of a cat", 5).tolist() == [[49406, 320, 1125, 539, 49407]]
    for text, ids in FACTS.items():
        assert clip.encode(text) == ids, text
