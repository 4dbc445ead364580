"""Against CLIP's own tokenizer, over 10,000 generated strings: ids, and rows padded and cut as CLIP does.

test_tokenizer.py draws its strings from blocks of Unicode; these are made as people (and programs) write:
sentences in many scripts, emoji of several code points, markup escaped twice, text read in the wrong
encoding, contractions, special tokens spelled out, and texts that are far too long.
"""

import random
import warnings
from html.entities import html5

import numpy as np
import pytest
from parity import openai_file, run_file
from references import or_skip

from miniclip.checkpoints import read_tokenizer
from miniclip.tokenizer import END, START

NUMBER = 10_000
SENTENCES = (
    """
a photo of a {}, a type of pet. | itap of my {}! | Ceci n'est pas une pipe: « l'été, ça va »
das große Straßenschild; ÄÖÜ ẞ | El niño comió ¡paella! ¿Sí? | Zażółć gęślą jaźń | Příliš žluťoučký kůň
İstanbul'da ılık bir gün | Việt Nam có nhiều dấu | Привет, мир! Ёлка | Γειά σου Κόσμε ΣΊΣΥΦΟΣ ς | שלום עולם
مرحبا بالعالم ١٢٣ | नमस्ते दुनिया क्षत्रिय | สวัสดีชาวโลก | வணக்கம் | 你好,世界!一只猫 | こんにちは ハロー ｶﾀｶﾅ ㌔
안녕하세요 각 | ⵜⴰⵎⴰⵣⵉⵖⵜ | ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ | 𐌲𐌿𐍄𐌹𐍃𐌺 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 ①②③ ½⅓ Ⅻ x²₃ | e\u0301a\u0308\u0323 A\u030a ﬀ ﬁ Ǆ ǅ ŉ ſ K Å
$1,234.56 -- 50% off!!! @user #tag https://example.org/?q=a&b=c_d~e | <p class="x">Tom & Jerry</p>
""".strip()
    .replace("\n", " | ")
    .split(" | ")
)
EMOJI = [
    "😂",
    "❤️",
    "❤",
    "👩🏽‍🚀",
    "👨‍👩‍👧‍👦",
    "🏳️‍🌈",
    "🇩🇪",
    "🇯🇵🇫🇷",
    "1️⃣",
    "#️⃣",
    "👍🏿",
    "🏴󠁧󠁢󠁳󠁣󠁴󠁿",
    "🧑‍❤️‍💋‍🧑",
    "\u200d",
    "\ufe0f",
    "☺︎",
    "🫠",
]
CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL", "’s", "''s", "o'clock", "y'all'd've", "'tis"]
SPECIAL = [START, END, START.upper(), "<|endoftext |>", "<|", "|>", "</w>", "<start_of_text>", START + END, "a" + END]
SPACES = [" ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u2003", "\u3000", "\u2028", "\x1c", "\x85", "\u200b", "\ufeff", ""]
CONTROL = [*map(chr, range(32)), "\x7f", "\x9b31m", "\x1b[1;31m", "\u202e", "\u2066", "\ufffe", "\uffff", "\ufffd"]
ENTITIES = sorted(html5)
SURROGATES = ["\ud800", "\udfff", "\udc80", "\ud83d\ude00", "\ude00\ud83d", "\ud83d😀"]


def mojibake(rng, text):
    """The text, written as UTF-8 and read as something else, once or twice."""
    for _ in range(rng.randint(1, 2)):
        other = rng.choice(["latin-1", "cp1252", "cp437", "mac_roman"])
        text = text.encode("utf-8", "replace").decode(other, "replace")
    return text


def entity(rng):
    """An HTML entity, by name or number, perhaps escaped again, perhaps out of range or without its end."""
    name = rng.choice(
        [
            rng.choice(ENTITIES),
            f"#{rng.randrange(0x110000)};",
            f"#x{rng.randrange(0x3000):x};",
            "#0;",
            "#x110000;",
            "#xD800;",
            "#128;",
            "nbsp;",
            "lt;",
            "amp;amp;lt;",
            "notit;",
        ]
    )
    return "&" + "amp;" * rng.choice([0, 0, 1, 2]) + name


def anything(rng):
    return "".join(chr(rng.randrange(rng.choice([0x80, 0x600, 0x3000, 0x10000, 0x110000]))) for _ in range(9))


def piece(rng):
    words = rng.choice(SENTENCES).split(" ")
    start = rng.randrange(len(words))
    some = " ".join(words[start : start + rng.randint(1, 5)])
    invented = "".join(rng.choice("bcdfghklmnprstvw") + rng.choice("aeiouy") for _ in range(rng.randint(1, 5)))
    kind = rng.randrange(14)
    return [
        some,
        some.upper(),
        some.title(),
        mojibake(rng, some),
        entity(rng),
        rng.choice(EMOJI) * rng.randint(1, 3),
        rng.choice(["it", "I", "dogs", "é", "7"]) + rng.choice(CONTRACTIONS),
        rng.choice(SPECIAL),
        rng.choice(CONTROL) + some,
        rng.choice(SURROGATES),
        anything(rng),
        str(rng.randrange(10**6)),
        invented,
        invented.title() + "-" + some,
    ][kind]


def strings(number, seed=1):
    """Strings of one to five pieces; one in fifty is many times as long as the context."""
    rng = random.Random(seed)
    for n in range(number):
        pieces = [piece(rng) for _ in range(30 if n % 50 == 0 else rng.randint(1, 5))]
        yield "".join(piece + rng.choice(SPACES) for piece in pieces)


def clips_row(ids, context_length, start, end):
    """A row as CLIP's `tokenize(truncate=True)` makes it."""
    row = [start, *ids, end]
    if len(row) > context_length:
        row = [*row[: context_length - 1], end]
    return row + [0] * (context_length - len(row))


@pytest.fixture(scope="module")
def pair():
    """miniclip's tokenizer and CLIP's."""
    original = run_file(or_skip(openai_file, "simple_tokenizer.py"))
    vocabulary = str(openai_file("bpe_simple_vocab_16e6.txt.gz"))
    return read_tokenizer(vocabulary), original.SimpleTokenizer(vocabulary)


def test_ids_and_rows_of_10_000_strings(pair):
    ours, theirs = pair
    start, end = theirs.encoder[START], theirs.encoder[END]
    cut = set()
    texts = list(strings(NUMBER))
    expected = [theirs.encode(text) for text in texts]
    for text, ids in zip(texts, expected):
        assert ours.encode(text) == ids, ascii(text)
    for context_length in (77, 9, 2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a text was cut, said once
            rows = ours(texts, context_length)
        wanted = np.array([clips_row(ids, context_length, start, end) for ids in expected])
        assert (rows == wanted).all(), ascii(texts[int((rows != wanted).any(1).argmax())])
        cut.add(sum(len(ids) + 2 > context_length for ids in expected))
    assert min(cut) > NUMBER / 100 and len(set(texts)) > 0.97 * NUMBER
    assert len({i for ids in expected for i in ids}) > 2500  # of the vocabulary: the strings are not all alike


def test_every_token_of_the_vocabulary(pair):
    """Each of the 49,408 tokens, spelled out: the same ids, and the same text back."""
    ours, theirs = pair
    texts = [theirs.decode([i]) for i in range(ours.vocab_size)]
    assert texts == [ours.decode([i]) for i in range(ours.vocab_size)]
    for text in texts[::5]:
        assert ours.encode(text) == theirs.encode(text), ascii(text)
