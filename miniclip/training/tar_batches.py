"""Batches of pairs that lie in tars: each pair once an epoch, in an order that the seed and the step alone decide.

    an epoch        the tars, shuffled, and cut into windows of a few; the pairs of each window, shuffled
    a lane          belongs to one micro-batch of every step, and reads its own stretch of the epoch from end to end
    step            where each lane stands, by a division: a run that goes on reads nothing again

A lane's stretch is as long as its micro-batch is large, so all come to the end of an epoch in the same step, and go on
with the next one in the middle of it. The lanes follow from the configuration, whatever the number of ranks; each rank
opens the tars of its own lanes, one window at a time. Where there are fewer tars than lanes, they share them.
"""

import warnings
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
from PIL import Image

from ..data import read_pair
from ..preprocess import mean_and_std, shrink

TARS = 4  # of a window: so many are open at once for a lane, and twice as many where it goes from one to the next
SHUFFLED_TARS, SHUFFLED_PAIRS, REPLACED, CROPPED = range(4)  # what random numbers are for


class Window:
    """M pairs of some tars, shuffled: tar int64 (M,), place int64 (M, 4) and text uint64 (M,); see data/tar_index.py.

    where: (number of the epoch, number of the window in it).
    """

    def __init__(self, data, tars, where, seed):
        tables = [data.table(t) for t in tars]
        tar = np.repeat(tars, data.counts[tars])
        order = np.random.default_rng([seed, SHUFFLED_PAIRS, *where]).permutation(len(tar))
        self.where, self.tar = where, tar[order]
        self.place, self.text = (np.concatenate(parts)[order] for parts in zip(*tables))


class Epoch:
    """The tars of each window, a list of int64 arrays, and where the windows begin and end in the epoch."""

    def __init__(self, data, number, seed):
        order = np.random.default_rng([seed, SHUFFLED_TARS, number]).permutation(len(data.paths))
        self.windows = np.array_split(order, -(-len(order) // TARS))
        self.ends = np.cumsum([data.counts[tars].sum() for tars in self.windows])


class TarBatches:
    """Micro-batches of training pairs out of a `TarSet`, as `Batches` gives those of a PictureSet.

    `batches(step, map, part)` -> list of (images (n, 3, S, S) float32, tokens (n, T) int64) of the micro-batches that
    belong to part[0] of part[1] equal parts. Of each picture a random square is taken, as large as it allows, which is
    all the augmentation that CLIP was trained with; its middle where config.augment_strength is 0.

    In a batch no text comes twice: a pair whose text repeats one is replaced by another, drawn at random; so is one
    whose picture cannot be read. `replaced` counts both, of the parts that were asked for here. Texts are compared by
    their first 75 letters, so no tokens come twice where 77 or more of them are read; where fewer are, no two texts of
    one micro-batch are the same once they are cut.

    Raises ValueError when there are fewer pairs than a batch takes, or too few that differ.
    Source: Radford et al. 2021, 2.4, and for windows of shards WebDataset.
    """

    def __init__(self, data, tokenizer, model_config, config):
        self.data, self.tokenizer, self.model_config, self.config = data, tokenizer, model_config, config
        self.size = model_config["vision_cfg"]["image_size"]
        self.mean, self.std = (np.array(each, np.float32)[:, None, None] for each in mean_and_std(model_config))
        self.things = range(len(data))
        self.replaced = Counter()
        self.epochs, self.windows = {}, {}
        if len(data) < config.batch_size:
            raise ValueError(
                f"a batch of {config.batch_size} is larger than the {len(data)} pairs of {data.name}; "
                f"choose a batch of at most {len(data)}."
            )

    def positives(self, step):
        """[None]: each text is true of its own picture alone, as far as anybody knows."""
        return [None]

    def __call__(self, step, map=map, part=(0, 1)):
        lanes, texts, repeated = self.draw(step)
        count, (rank, size) = len(lanes), part
        mine = range(count * rank // size, count * (rank + 1) // size)

        def micro_batch(lane):
            return self.read(step, lane, lanes[lane], texts, count)

        found = list(map(micro_batch, mine))
        unreadable = sum((why for *_, why in found), [])
        again = sum(repeated[lane] for lane in mine) + sum(times for _, _, times, _ in found)
        if unreadable and not self.replaced["unreadable"]:
            warnings.warn(f"{unreadable[0]} and is replaced by another, as others will be without a word")
        self.replaced.update(repeated=again, unreadable=len(unreadable))
        return [(images, tokens) for images, tokens, *_ in found]

    def draw(self, step):
        """What a batch is to be: the same for all ranks, as only indices are looked at.

        Returns for each lane a list of (row of the batch, Window, index in it); the keys of all texts, a set; and for
        each lane how many texts came twice, and were replaced.
        """
        rows = np.arange(self.config.batch_size)
        lanes, texts, repeated, used = [], set(), [], {}
        for lane in np.array_split(rows, -(-len(rows) // self.config.micro_batch)):
            lanes.append([])
            repeated.append(0)
            for row, (window, i) in zip(lane.tolist(), self.due(step, lane)):
                used[window.where] = window
                if int(window.text[i]) in texts:
                    repeated[-1] += 1
                    window, i = self.first(self.others(step, row, window), lambda key: key not in texts)
                texts.add(int(window.text[i]))
                lanes[-1].append((row, window, i))
        self.windows = used
        self.epochs = {number: self.epochs[number] for number, _ in used}
        return lanes, texts, repeated

    def due(self, step, rows):
        """The pairs (Window, index in it) that are next for a lane, whose rows of the batch are these."""
        total, count = len(self.data), len(rows)
        start, end = (total * int(row) // self.config.batch_size for row in (rows[0], rows[-1] + 1))
        numbers, places = np.divmod(step * count + np.arange(count), end - start)
        for number in np.unique(numbers).tolist():
            epoch, place = self.epoch(number), start + places[numbers == number]
            windows = np.searchsorted(epoch.ends, place, side="right")
            for w in np.unique(windows).tolist():
                window = self.window(number, w)
                for i in (place[windows == w] - epoch.ends[w]).tolist():
                    yield window, i + len(window.text)

    def others(self, step, row, window):
        """Pairs to take instead: those of this window from a random one on, then those of the others of its epoch."""
        rng = np.random.default_rng([self.config.seed, REPLACED, step, row])
        number, w = window.where
        count = len(self.epoch(number).windows)
        for k in range(count):
            window = self.window(number, (w + k) % count)
            start = int(rng.integers(len(window.text)))
            for i in range(len(window.text)):
                yield window, (start + i) % len(window.text)

    def first(self, pairs, suits):
        """The first pair (Window, index in it) whose text's key suits. Raises ValueError where there is none."""
        for window, i in pairs:
            if suits(int(window.text[i])):
                return window, i
        raise ValueError(
            f"{self.data.name} has too few pictures with captions that differ for a batch of {self.config.batch_size}; "
            "choose a smaller one."
        )

    def epoch(self, number):
        """The `Epoch` of this number, kept while it is read."""
        if number not in self.epochs:
            self.epochs[number] = Epoch(self.data, number, self.config.seed)
        return self.epochs[number]

    def window(self, number, w):
        """The `Window` w of an epoch, kept while it is read."""
        if (number, w) not in self.windows:
            tars = self.epoch(number).windows[w]
            self.windows[number, w] = Window(self.data, tars, (number, w), self.config.seed)
        return self.windows[number, w]

    def read(self, step, lane, pairs, texts, lanes):
        """Images, tokens, how many tokens came twice, and why pictures cannot be read, a list of str.

        pairs, texts: as `draw` says; lanes: how many there are.
        """
        rng = np.random.default_rng([self.config.seed, CROPPED, step, lane])
        length = self.model_config["text_cfg"]["context_length"]
        images = np.empty((len(pairs), 3, self.size, self.size), np.float32)
        tokens, unreadable, again, files, taken = {}, [], 0, {}, set(texts)

        # A text that another lane takes instead of one of its own is never this lane's: nobody has to ask.
        def suits(key):
            return key not in taken and key % lanes == lane

        with ExitStack() as stack:
            for row, window, i in pairs:
                others = self.others(step, row, window)
                while True:
                    tar = int(window.tar[i])
                    if tar not in files:
                        files[tar] = stack.enter_context(self.data.open(tar))
                    try:
                        picture, text = read_pair(files[tar], window.place[i], self.size)
                        ids = self.tokenizer(text, length)[0]
                        if tokens.setdefault(ids.tobytes(), ids) is ids:
                            self.look(picture, rng, images[len(tokens) - 1])
                            break
                        again += 1
                    except ValueError as error:
                        unreadable.append(str(error))
                    window, i = self.first(others, suits)
                    taken.add(int(window.text[i]))
        return images, np.stack(list(tokens.values())), again, unreadable

    def look(self, picture, rng, image):
        """A random square of a PIL picture, as large as it allows; where none is asked for, what the model is shown.

        It is written into image (3, S, S), normalised to the bits of `preprocess`, but with no arrays in between.
        """
        if self.config.augment_strength and self.model_config["preprocess"].get("resize_mode") != "squash":
            width, height = picture.size
            side = min(width, height)
            left, top = rng.integers(0, [width - side + 1, height - side + 1]).tolist()
            box = left, top, left + side, top + side
            pixels = np.asarray(picture.resize((self.size, self.size), Image.Resampling.BICUBIC, box=box))
        else:
            [pixels] = shrink([picture], self.model_config)
        image[:] = pixels.transpose(2, 0, 1)
        image /= 255
        image -= self.mean
        image /= self.std


def for_tars(config):
    """A TrainConfig as it holds for tars: CLIP's vocabulary and length of texts; nothing that needs all captions."""
    nothing = ("mix", "plain_names", "descriptions", "description_weight", "random_phrases", "random_words")
    nothing = dict.fromkeys(nothing, 0.0)
    return replace(config, vocab_size=49408, context_length=77, by_picture=False, augmentation={}, **nothing)
