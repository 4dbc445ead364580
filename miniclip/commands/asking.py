"""What the commands that ask a model share: which model, what its weights leave unsaid, words and pictures."""

import argparse
import io
import re
import sys

WHICH = "emoji (the one that ships), a file, a folder, or the name of a model that was downloaded, "
WHICH += "openai/clip-vit-base-patch32 (default: emoji)"
CHECKPOINT = ("--checkpoint", {"default": "emoji"}, WHICH)


def widths(text):
    """An int, or two: "64", "80,64"."""
    numbers = tuple(map(int, text.split(",")))
    return numbers[0] if len(numbers) == 1 else numbers


LOADING = (  # what outranks the files beside the weights, or stands in for them: see `miniclip.load`
    ("--model", {"metavar": "NAME"}, "of weights that nothing describes, the architecture: ViT-B-32 as open_clip names "
     "it, or ViT-B/32 as OpenAI does"),
    ("--quick-gelu", {"action": argparse.BooleanOptionalAction}, "the model has QuickGELU, as OpenAI's; or GELU"),
    ("--head-width", {"type": widths, "metavar": "WIDTH"}, "how wide its attention heads are: 64, or 80,64 where those "
     "of pictures and of texts differ"),
    ("--image-size", {"type": int, "metavar": "PIXELS"}, "take pictures of another size than it was trained with; its "
     "position embeddings are interpolated"),
)  # fmt: skip


def load_model(checkpoint, options):
    """The model that a command asks. Raises as `load` does."""
    from ..checkpoints import load

    said = {name: getattr(options, name) for name in ("model", "quick_gelu", "head_width", "image_size")}
    return load(checkpoint, options.device, **said)


def check_text(clip, text, what):
    """ValueError unless a text has words, and no more than the model reads."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} holds bytes that are no text in the terminal's encoding.") from None
    count, most = len(clip.tokenizer.encode(text)), clip.config["text_cfg"]["context_length"] - 2
    if not count:
        raise ValueError(f"{what} holds no words.")
    if count > most:
        raise ValueError(f"{what} has {count} tokens, and this model reads at most {most}: say it in fewer words.")


def read_picture(name):
    """The picture in a file, or for "-" on standard input. Raises ValueError where it cannot be read as one."""
    from ..data import open_picture

    if name != "-":
        return open_picture(name)
    try:
        return open_picture(io.BytesIO(sys.stdin.buffer.read()))
    except ValueError as error:
        raise ValueError(f"standard input is no picture that can be read: {error.__cause__ or error}") from None


def in_line(text):
    """A text, such as the name of a file, on one line: a ? stands for each character that is none to be printed."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", "?", str(text))
