"""The training loop: draw a batch, take a step, tell how it goes, keep what was learned.

Every batch is a function of the seed and the number of the step alone, so a run has no hidden state: its
parameters, the optimiser's two moments, the moving average and the step say all. That is what a checkpoint
holds, and why a run that was killed and resumed ends in the same bits as one that was not.

    out/last.safetensors     to resume from
    out/model.safetensors    the model, at the end: what `miniclip.load` reads
    out/log.jsonl            one JSON object a line: numbers of a step, or an evaluation
"""

import hashlib
import json
import os
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .backend import array_module, keep_freed_memory, worker_threads
from .checkpoint import read_arrays, save, write_arrays
from .data.augment import Augmentation, augment, mix, plain, resize_all
from .model import CLIP, initialize, model_config
from .optim import AdamW, learning_rate
from .overflow import first_overflow
from .preprocess import normalize
from .recipe import Recipe
from .step import loss_and_gradient
from .tokenizer import Tokenizer
from .tree import Flat, to_device
from .zeroshot import evaluate


class TrainingDiverged(ArithmeticError):
    """The loss or the gradient stopped being finite; the last good checkpoint is kept."""


class Batches:
    """Shards of training pairs, drawn anew for each step.

    data: PictureSet. `batches(step, map)` -> list of (images (n, 3, S, S) float32, tokens (n, T)). In a
    batch no concept comes twice: a second picture of it would be called a wrong match and is none.
    Raises ValueError when there are fewer than two concepts, or fewer than a batch.
    """

    def __init__(self, data, tokenizer, config, recipe):
        self.config, self.recipe = config, recipe
        self.size = config["vision_cfg"]["image_size"]
        self.parts = Augmentation(**recipe.augmentation)
        self.pictures = resize_all(data.pictures, self.size)
        order = np.argsort(data.concept, kind="stable")
        self.drawings = np.split(order, np.cumsum(np.bincount(data.concept, minlength=len(data.captions)))[:-1])
        self.concepts = np.array([k for k, drawn in enumerate(self.drawings) if len(drawn)])
        counts = np.array([len(self.drawings[k]) for k in self.concepts])
        self.share = counts / counts.sum() if recipe.by_picture else None
        if len(self.concepts) < 2:
            raise ValueError(f"{data.name} has {len(self.concepts)} caption to learn; "
                             "a contrast needs at least two that differ.")
        if recipe.batch > len(self.concepts):
            raise ValueError(f"a batch of {recipe.batch} is larger than the {len(self.concepts)} different captions of "
                             f"{data.name}; choose a batch of at most {len(self.concepts)}.")
        length = config["text_cfg"]["context_length"]
        self.tokens = [tokenizer(texts, length) for texts in data.captions]

    def __call__(self, step, map=map):
        recipe = self.recipe
        rng = np.random.default_rng([recipe.seed, step])
        concepts = rng.choice(self.concepts, recipe.batch, replace=False, p=self.share)
        drawings = np.array([rng.choice(self.drawings[k], 2) for k in concepts])
        texts = [0 if rng.random() < recipe.plain_names else rng.integers(len(self.tokens[k])) for k in concepts]
        tokens = np.stack([self.tokens[k][text] for k, text in zip(concepts, texts)])
        # Texts of one length into one shard: what is shorter than the longest is only padding.
        order = np.argsort((tokens != 0).sum(1), kind="stable")
        tokens, drawings = tokens[order], drawings[order]

        def shard(rows):
            # Each shard has its own random numbers, so it does not matter which thread draws them first.
            rng = np.random.default_rng([recipe.seed, step, rows[0]])
            pictures = self.pictures[drawings[rows, 0]]
            if recipe.mix:
                pictures = mix(pictures, self.pictures[drawings[rows, 1]], rng, recipe.mix)
            images = (augment(pictures, rng, self.size, recipe.strength, self.parts) if recipe.strength
                      else plain(pictures, self.size))
            return normalize(images, self.config), tokens[rows]

        # Of nearly one size: the norms would learn nothing from a last shard of one picture.
        return list(map(shard, np.array_split(np.arange(recipe.batch), -(-recipe.batch // recipe.shard))))


class Run:
    """A training run that can stop and go on: parameters, optimiser, step, and where they are kept.

    data: PictureSet; recipe: Recipe; out: folder; device: "cpu" or "gpu". `resume` goes on from
    out/last.safetensors where there is one. Raises ValueError when out holds a run and resume is not
    asked for, or holds one of another recipe or other data.
    """

    def __init__(self, data, recipe, out, device="cpu", resume=False):
        self.recipe, self.out = recipe, Path(out)
        self.tokenizer = Tokenizer.train([text for texts in data.captions for text in texts], recipe.vocabulary)
        self.config = model_config(recipe.model, vocab_size=self.tokenizer.vocab_size, context_length=recipe.context)
        self.batches = Batches(data, self.tokenizer, self.config, recipe)
        self.params = Flat(to_device(initialize(self.config, recipe.seed), device))
        self.gradient = self.params.like(self.params.vector.copy())
        self.optimizer = AdamW(self.params, recipe.beta1, recipe.beta2, recipe.epsilon, recipe.weight_decay,
                               recipe.clip, recipe.average)
        self.device, self.identity = device, {"recipe": recipe.to_json(), "data": fingerprint(data)}
        self.about = {"data": data.name, "recipe": recipe.to_json()}
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"the folder {out} cannot be made ({error.strerror}); choose another --out.") from None
        self.log = Log(self.out / "log.jsonl")
        last = self.out / "last.safetensors"
        if last.exists() and not resume:
            raise ValueError(f"{out} holds a run already: go on with --resume, or choose another --out.")
        if last.exists():
            self._restore(last)
        else:
            self.log.cut(0)
            self.checkpoint()

    @property
    def step(self):
        """Steps taken."""
        return self.optimizer.count

    def advance(self, map=map):
        """One step; returns its numbers as a dict of floats. Raises TrainingDiverged."""
        recipe, step = self.recipe, self.step
        shards = to_device(self.batches(step, map), self.device)
        result = loss_and_gradient(self.params.tree, shards, self.config, self.gradient, map, recipe.recompute)
        norm = self.optimizer.gradient_norm(self.gradient, map)
        if not (np.isfinite(float(result["loss"])) and np.isfinite(float(norm))):
            where = first_overflow(self.params.tree, shards, self.config) or "the backward pass"
            raise self._diverged(step, f"the loss is {float(result['loss'])}, the gradient's norm {float(norm)}; "
                                       f"the first numbers that are not finite come from {where}")
        rate = learning_rate(step, recipe.steps, recipe.learning_rate, recipe.warmup)
        self.optimizer.step(self.gradient, rate, map, norm)
        if not array_module(self.params.vector).isfinite(self.params.vector).all():
            raise self._diverged(step, f"a learning rate of {rate:g} makes parameters that are not finite")
        logit_scale = float(self.params.tree["logit_scale"])
        return {"step": step + 1, "loss": float(result["loss"]), "lr": rate, "logit_scale": logit_scale,
                "tau": float(np.exp(-logit_scale)), "d_logit_scale": float(result["d_logit_scale"]),
                "grad_norm": float(norm)}

    def _diverged(self, step, why):
        return TrainingDiverged(f"step {step + 1}: {why}. The last good checkpoint, of step {self.saved}, is kept in "
                                f"{self.out}; try a lower learning rate.")

    def model(self, averaged=True):
        """The CLIP of this moment: of the averaged parameters, or of those that the next step starts from."""
        flat = self.optimizer.average if averaged else self.params
        return CLIP(flat.tree, self.config, self.tokenizer, self.about | {"step": self.step})

    def checkpoint(self):
        """Write out/last.safetensors; a kill at any moment leaves the old file or the new one, whole."""
        state = to_device(self.optimizer.state() | {"count": np.array(self.step)}, "cpu")
        write_arrays(self.out / "last.safetensors", state, self.identity)
        self.saved = self.step

    def _restore(self, path):
        state, identity = read_arrays(path)
        theirs, ours = identity.get("recipe"), self.identity["recipe"]
        if not isinstance(theirs, dict):
            raise ValueError(f"{path} is no checkpoint of a training run; choose another --out.")
        if identity != self.identity:
            changed = [key for key in ours if theirs.get(key) != ours[key]] or ["the training data"]
            raise ValueError(f"{path} is of another run: {', '.join(changed)} differ. "
                             "Resume with what it was started with, or choose another --out.")
        self.optimizer.restore(state)
        self.saved = self.step
        self.log.cut(self.step)


class Log:
    """A file of JSON lines, and the same rows in memory."""

    def __init__(self, path):
        self.path, self.rows = path, []

    def cut(self, step):
        """Forget what was written after `step`, as when a run goes on from there."""
        lines = self.path.read_text().splitlines(keepends=True) if self.path.exists() else []
        self.rows = [json.loads(line) for line in lines if line.endswith("\n")]
        self.rows = [row for row in self.rows if row["step"] <= step]
        beside = self.path.with_suffix(".tmp")
        beside.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        os.replace(beside, self.path)

    def add(self, row):
        """Append one row; it is in the file when this returns."""
        self.rows.append(row)
        with open(self.path, "a") as file:
            file.write(json.dumps(row) + "\n")


def train(data, recipe=Recipe(), evaluations=(), out="runs/clip", threads=None, device="cpu", resume=False,
          progress=True):
    """Train CLIP on a PictureSet; returns (CLIP of the averaged parameters, rows of the log).

    evaluations: list of Evaluation, taken every recipe.evaluate_every steps and at the end; threads: int or
    None for one a processor, no matter for the result; progress: show a bar. Files in `out`: see the top.
    Raises ValueError for a recipe that does not fit the data, and TrainingDiverged.
    """
    keep_freed_memory()
    with worker_threads(threads) as pool, np.errstate(all="ignore"):
        run = Run(data, recipe, out, device, resume)
        mapping = pool.map if array_module(run.params.vector) is np else map
        with tqdm(total=recipe.steps, initial=run.step, disable=not progress, unit="step", dynamic_ncols=True) as bar:
            clock, since = time.perf_counter(), run.step
            while run.step < recipe.steps:
                numbers = run.advance(mapping)
                bar.update()
                bar.set_postfix(loss=f"{numbers['loss']:.3f}", tau=f"{numbers['tau']:.3f}", refresh=False)
                last = run.step == recipe.steps
                if run.step % recipe.log_every == 0 or last:
                    now = time.perf_counter()
                    numbers["examples_per_second"] = (run.step - since) * recipe.batch / (now - clock)
                    run.log.add(numbers)
                    clock, since = now, run.step
                if last or recipe.evaluate_every and run.step % recipe.evaluate_every == 0:
                    for evaluation in evaluations:
                        scores = evaluate(run.model(), evaluation)
                        run.log.add({"step": run.step} | {f"eval/{evaluation.name}/{key}": value
                                                          for key, value in scores.items() if key != "name"})
                        bar.write(f"step {run.step}: {evaluation.name}: top-1 {scores['top1']:.1%}, "
                                  f"top-5 {scores['top5']:.1%}; with prompts {scores['ensemble_top1']:.1%}, "
                                  f"{scores['ensemble_top5']:.1%}; chance {scores['chance']:.2%}")
                if last or run.step % recipe.checkpoint_every == 0:
                    run.checkpoint()
    clip = run.model()
    save(clip, run.out / "model.safetensors")
    return clip, run.log.rows


def fingerprint(data):
    """A number that tells one set of training data from another, for a run that goes on."""
    digest = hashlib.sha256(data.pictures.tobytes() + data.concept.tobytes())
    digest.update(json.dumps(data.captions).encode())
    return digest.hexdigest()
