"""Which captions are the same, and which pictures are therefore one thing."""

from collections import defaultdict

import numpy as np

from ..tokenizer import words_of


def group_by_caption(captions_of):
    """Things and their captions, no caption shared: n lists of captions -> concept int64 (n,) and K lists.

    A caption belongs to the first picture that has it. A picture whose captions all belong to others shows the
    same thing as the owner of its first one, so that a batch never holds both. Captions that become the same tokens
    are the same caption.
    """
    key_of = keys_of({text for texts in captions_of for text in texts})
    owner, concept, captions = {}, [], []
    for texts in captions_of:
        own = {key_of[text]: text for text in reversed(texts) if key_of[text] not in owner}
        if own:
            owner.update(dict.fromkeys(own, len(captions)))
            captions.append(list(reversed(own.values())))
        concept.append(owner[key_of[texts[0]]] if not own else len(captions) - 1)
    return np.array(concept, np.int64), captions


def keys_of(texts):
    """{text: key} such that two texts have one key where any tokenizer gives them the same tokens."""
    by_letters = defaultdict(list)
    for text in texts:
        # Cutting into words is slow; the letters of most captions tell them apart.
        plain = text.isascii() and text.isprintable() and "&" not in text
        by_letters["".join(text.lower().split() if plain else words_of(text))].append(text)
    keys = {}
    if "" in by_letters:
        raise ValueError(f"the caption {by_letters[''][0]!r} holds no words; give it some")
    for letters, alike in by_letters.items():
        for text in alike:
            keys[text] = letters if len(alike) == 1 else " ".join(words_of(text))
    return keys
