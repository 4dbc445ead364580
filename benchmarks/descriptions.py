"""Does a model find what somebody describes? Forty everyday descriptions, and every tag and kind that emojibase has.

python benchmarks/descriptions.py                                                    the model that ships, on Fluent
python benchmarks/descriptions.py --checkpoint runs/emoji-default --style noto       another one, another artist

For each description the pictures of one artist are ranked, people with a skin tone left out. "found": of the first ten,
how many are right, of as many as there can be. "any": how often one of them is. What is right follows from emojibase's
subgroups and tags, which are not asked; beside it stands what one finds without pictures, by counting the
words that a description shares with those tags, subgroups and names. Tags and kinds stand in training captions, as do
emojilib's keywords; the everyday descriptions do not; but who wrote the phrases of DESCRIPTION_TEMPLATES knew them.
"""

import argparse
import json
import re
from collections import Counter

import numpy as np

import miniclip
from miniclip.data import emoji_names, emoji_pictures
from miniclip.data.emoji_captions import kinds_of

FIRST = 10
# A description: the subgroups and the tags that are right.
EVERYDAY = {
    "a pet at home": ([], ["pet"]),
    "creatures of the ocean": (["animal-marine"], ["ocean"]),
    "things that fly": (["animal-bird", "transport-air"], ["fly", "flying"]),
    "something cold": ([], ["cold", "ice", "frozen", "snow", "freezing"]),
    "winter holidays": ([], ["christmas", "winter", "ski", "snow", "xmas"]),
    "hot drinks": ([], ["tea", "coffee", "caffeine"]),
    "alcohol": ([], ["alcohol", "beer", "booze", "wine", "drinking", "cocktail"]),
    "a snack": (["food-sweet", "food-prepared"], ["sandwich"]),
    "breakfast": ([], ["breakfast"]),
    "healthy food": (["food-fruit", "food-vegetable"], ["salad", "vegetable", "fruit"]),
    "sweets": (["food-sweet"], ["candy", "sweet", "dessert"]),
    "transport on rails": ([], ["railway", "train", "tram", "metro", "subway"]),
    "boats": (["transport-water"], ["boat", "ship"]),
    "vehicles with wheels": (["transport-ground"], ["vehicle", "car"]),
    "repair": (["tool"], ["tool"]),
    "weapons": ([], ["weapon"]),
    "things of a doctor": (["medical"], ["doctor", "medicine", "hospital", "health"]),
    "school": ([], ["school", "education", "student"]),
    "an office worker's desk": (["office"], ["office", "paperclip", "stationery"]),
    "money matters": (["money", "currency"], ["money", "bank", "dollar"]),
    "playing music": (["musical-instrument", "music"], ["music", "instrument"]),
    "a sport with a ball": ([], ["ball"]),
    "winning": (["award-medal"], ["award", "prize", "medal", "win", "winner"]),
    "a birthday": ([], ["birthday", "celebration", "party"]),
    "romance": (["heart", "face-affection"], ["love", "romance", "valentine"]),
    "being sad": ([], ["sad", "cry", "unhappy", "upset"]),
    "being angry": ([], ["angry", "mad", "anger", "rage"]),
    "being ill": (["face-unwell"], ["sick", "ill", "illness"]),
    "being tired": (["face-sleepy"], ["tired", "sleepy", "sleep"]),
    "something scary": ([], ["halloween", "scary", "ghost", "monster", "creepy"]),
    "night sky": ([], ["moon", "star", "night"]),
    "bad weather": ([], ["storm", "rain", "thunder", "weather"]),
    "plants": (["plant-flower", "plant-other"], ["plant", "flower", "tree"]),
    "insects": (["animal-bug"], ["insect", "bug"]),
    "farm animals": ([], ["farm"]),
    "dangerous animals": ([], ["snake", "crocodile", "shark", "lion", "tiger", "scorpion", "bear", "spider"]),
    "buildings": (["place-building", "place-religious"], ["building"]),
    "to wear on the feet": ([], ["shoe", "boot", "footwear", "sandal", "sneaker"]),
    "jewelry": ([], ["diamond", "jewel", "gem", "jewelry", "ring"]),
    "prayer": (["religion", "place-religious"], ["religion", "pray", "prayer", "religious"]),
}


def questions(entries):
    """{kind of question: {description: bool (N,), which of N entries of the catalogue are right}}."""
    tags = Counter(tag for entry in entries for tag in entry["tags"] if tag not in entry["name"])
    kinds = {kind for entry in entries for kind in kinds_of(entry)}

    def right(is_right):
        return np.array([bool(is_right(entry)) for entry in entries])

    return {
        "everyday descriptions": {
            words: right(lambda entry, some=some: entry["subgroup"] in some[0] or set(entry["tags"]) & set(some[1]))
            for words, some in EVERYDAY.items()
        },
        "tags of 4 to 60 emoji": {
            tag: right(lambda entry, tag=tag: tag in entry["tags"])
            for tag, count in sorted(tags.items())
            if 4 <= count <= 60
        },
        "words of kinds": {kind: right(lambda entry, kind=kind: kind in kinds_of(entry)) for kind in sorted(kinds)},
    }


def found(scores, right):
    """scores (N,) of the pictures, right bool (N,) -> (share of the first ten that is right, whether any is)."""
    first = right[np.argsort(-scores, kind="stable")[:FIRST]]
    return first.sum() / min(FIRST, right.sum()), first.any()


def words_of(text):
    """The words of a text, and those without a plural's s."""
    words = set(re.findall(r"[a-z]+", text.lower()))
    return words | {word.removesuffix("s") for word in words if len(word) > 3}


def main(arguments=None):
    """Print, for each kind of question, what the model finds, and what the count of shared words does."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--checkpoint", default="emoji", help="as for evaluate (default: emoji)")
    parser.add_argument("--style", default="fluent", help="whose pictures are searched (default: fluent)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    try:
        clip, (pictures, codes) = miniclip.load(options.checkpoint), emoji_pictures(options.style)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{error}\n")
    known = {entry["code"]: entry for entry in emoji_names()}
    rows = [row for row, code in enumerate(codes) if "skin tone" not in known[code]["name"]]
    entries = [known[codes[row]] for row in rows]
    z = clip.encode_image(pictures[rows])
    read = [words_of(" ".join([entry["name"], entry["subgroup"], *entry["tags"]])) for entry in entries]
    table = {}
    for kind, asked in questions(entries).items():
        z_text = clip.encode_text(list(asked))
        by_model = np.array([found(z @ t, right) for t, right in zip(z_text, asked.values())]).mean(0)
        shared = [np.array([len(words_of(text) & words) for words in read], float) for text in asked]
        by_words = np.array([found(scores, right) for scores, right in zip(shared, asked.values())]).mean(0)
        table[kind] = {"asked": len(asked), "found": by_model[0], "any": by_model[1]}
        table[kind] |= {"words_found": by_words[0], "words_any": by_words[1]}
    if options.json:
        print(json.dumps({"checkpoint": options.checkpoint, "style": options.style, "pictures": len(rows)} | table))
        return
    print(f"{len(rows)} pictures of {options.style}{'':20} {options.checkpoint:>16} {'shared words':>16}")
    for kind, row in table.items():
        cells = [
            f"{row[one]:.1%} ({row[other]:.1%})" for one, other in (("found", "any"), ("words_found", "words_any"))
        ]
        print(f"{row['asked']:4} {kind:30} {cells[0]:>18} {cells[1]:>16}")


if __name__ == "__main__":
    main()
