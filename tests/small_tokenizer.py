"""A tokenizer of a few captions."""

from miniclip.tokenizer import Tokenizer

CAPTIONS = [
    "a small red circle above a blue square",
    "a large red square",
    "the blue circle",
    "three circles",
    "grinning face with big eyes",
    "smiling cat face with heart-shaped eyes",
    "face with tears of joy",
    "it's a dog's face, isn't it",
    "голубой круг",
    "красный круг",
    "青い丸",
    "赤い丸",
    "🙂🙂 😀😀",
]
SMALL = Tokenizer.train(CAPTIONS, 550)
