"""A training run: its parameters, its optimiser, its step, and the folder where they are kept.

Every batch is a function of the seed and the number of the step alone, so a run has no hidden state: its
parameters, the optimiser's two moments, the moving average and the step say all. That is what a checkpoint
holds, and why a run that was killed and resumed ends in the same bits as one that was not.

    out/last.safetensors     to resume from
    out/model.safetensors    the model, at the end: what `miniclip.load` reads
    out/log.jsonl            one JSON object a line: numbers of a step, or an evaluation
    out/start.safetensors    of a fine-tuned model: what it started from
"""

import math
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from ..backend import array_module, to_array_on
from ..checkpoints import read_arrays, save, write_arrays
from ..evaluation import evaluate
from ..gpu import GradScaler, Prefetch, compute_dtype, half_encoders
from ..loss import clip_loss
from ..model import CLIP
from ..optim import AdamW, learning_rate
from ..train_step import encoders_of, loss_and_gradient, trained_branches
from ..tree import Flat, to_device
from .batches import Batches, fingerprint
from .nonfinite import first_nonfinite
from .run_folder import Log, check_empty, check_same_run, lock_folder, make_folder
from .start import in_float32, keep_start, kept_start, new_model, origin
from .tiled_loss import tiled_clip_loss

LARGE = 8192  # pairs of a batch whose similarity matrix is not held whole


class TrainingDiverged(ArithmeticError):
    """The loss or the gradient stopped being finite; the last good checkpoint is kept."""


class Run:
    """A training run that can stop and go on.

    data: PictureSet; config: TrainConfig; out: folder; device: "cpu" or "gpu". `resume` goes on from
    out/last.safetensors where there is one. start: a CLIP to fine-tune, with its own architecture and tokenizer,
    whatever config says of them; None for a new one or, to resume, the one that out keeps. lower_batch: where there
    are fewer things than config wants in a batch, take so many. about: what the model's `about` is to say besides.
    Raises ValueError when out holds a run and resume is not asked for, or holds one of another configuration, other
    data or another start, and when a part of a new model is to be frozen.
    """

    def __init__(self, data, config, out, device="cpu", resume=False, start=None, lower_batch=False, about=None):
        self.out, self.device = Path(out), device
        start = start or (kept_start(self.out) if resume else None)
        if config.freeze and not start:
            raise ValueError(f"freeze is {config.freeze!r}; a new model has nothing to keep: say what to start from.")
        begun = in_float32(start) if start else new_model(data, config)
        self.tokenizer, self.model_config = begun.tokenizer, begun.config
        least = replace(config, batch_size=2) if lower_batch else config  # so that none is too large
        self.batches = Batches(data, self.tokenizer, self.model_config, least)
        self.positives = self.batches.positives
        config = replace(config, batch_size=min(config.batch_size, len(self.batches.things)))
        self.config = self.batches.config = config
        params = to_device(begun.params, device)
        self.params = Flat(trained_branches(params, config.freeze))
        self.frozen = {branch: params[branch] for branch in params if branch not in self.params.tree}
        self.gradient = self.params.like(self.params.vector.copy())
        betas = config.beta1, config.beta2
        rest = config.epsilon, config.weight_decay, config.max_grad_norm, config.ema_decay
        self.optimizer = AdamW(self.params, *betas, *rest)
        self.to_device, self.dtype = to_array_on(device), compute_dtype(config.precision, device)
        self.scaler = GradScaler(array_module(self.params.vector)) if self.dtype == np.float16 else None
        self.unread, self.numbers = [], {}
        self.identity = {"config": config.to_json(), "data": fingerprint(data)}
        self.about = {"data": data.name, "config": config.to_json()} | (about or {})
        self.about["fingerprint"] = self.identity["data"]
        if start:
            self.about["from"] = origin(begun)
            self.identity["from"] = self.about["from"]["sha256"]
            for name in ("model", "vocab_size", "context_length"):  # those of a new model
                del self.about["config"][name]
        make_folder(self.out)
        self.lock = lock_folder(self.out)
        try:
            self.begin(resume, begun if start else None)
        except BaseException:
            self.close()
            raise

    def begin(self, resume, start):
        """Start anew, or from the CLIP `start`, or go on from the last checkpoint."""
        last = self.out / "last.safetensors"
        if last.exists() and not resume:
            raise ValueError(f"{self.out} holds a run already: go on with --resume, or choose another --out.")
        if last.exists():
            self.restore(last)
        else:
            check_empty(self.out)
            keep_start(self.out, start)
        self.log = Log(self.out / "log.jsonl", self.step)
        if not last.exists():
            self.checkpoint()

    @property
    def step(self):
        """Steps taken."""
        return self.optimizer.count

    @property
    def tree(self):
        """All parameters; `params` has those that are trained."""
        return self.params.tree | self.frozen

    def draw(self, map=map):
        """The micro-batches of the next step: pictures on the device, tokens on the host, where their end is found."""
        return [(self.to_device(images), tokens) for images, tokens in self.batches(self.step, map)]

    def differentiate(self, micro_batches, map=map):
        """Write the gradient of a batch's loss into `self.gradient`; returns what `loss_and_gradient` does."""
        encoders = encoders_of
        if self.dtype.itemsize == 2:
            encoders = half_encoders(self.dtype, self.scaler and self.scaler.scale)
        loss = clip_loss if self.config.batch_size < LARGE else tiled_clip_loss
        loss = partial(loss, positives=self.positives(self.step))
        arguments = self.tree, micro_batches, self.model_config, self.gradient, map, self.config.recompute
        return loss_and_gradient(*arguments, loss, encoders)

    def update(self, result, micro_batches, map=map):
        """AdamW's step with `self.gradient`. On the CPU it is looked at at once; a GPU is not waited for until `look`.

        Raises TrainingDiverged.
        """
        config, on_cpu = self.config, self.device == "cpu"
        norm = self.optimizer.gradient_norm(self.gradient, map)
        if self.scaler:
            self.scaler.update(norm)  # a step that the scale was too large for is left out
        elif on_cpu and not (np.isfinite(result["loss"]) and np.isfinite(norm)):
            where = first_nonfinite(self.tree, micro_batches, self.model_config, config.freeze != "image")
            self.diverged(
                f"step {self.step + 1}",
                f"the loss is {result['loss']}, the gradient's norm {norm}; "
                f"the first numbers that are not finite come from {where or 'the backward pass'}",
            )
        rate = learning_rate(self.step, config.steps, config.learning_rate, config.warmup)
        self.optimizer.step(self.gradient, rate, map, norm)
        self.unread.append((rate, result["loss"], norm, result["d_logit_scale"]))
        if on_cpu:
            self.look()

    def look(self):
        """Read the steps since the last look, in one go: `numbers` is then a dict of floats of the last one.

        Raises TrainingDiverged: with the step whose loss is not finite, or those between which parameters broke.
        """
        if not self.unread:
            return
        xp, theta = array_module(self.params.vector), self.params.vector
        read = [number for _, *numbers in self.unread for number in numbers]
        read += [self.params.tree["logit_scale"], xp.isfinite(theta).all().astype(theta.dtype)]
        *steps, logit_scale, finite = map(float, to_device(xp.stack(read), "cpu"))
        first, rate = self.step - len(self.unread) + 1, self.unread[-1][0]
        self.unread = []
        for step, (loss, norm) in enumerate(zip(steps[::3], steps[1::3]), first):
            if not math.isfinite(loss if self.scaler else loss + norm):
                self.diverged(f"step {step}", f"the loss is {loss}, the gradient's norm {norm}")
        if not finite:
            steps = f"step {first}" if first == self.step else f"steps {first} to {self.step}"
            self.diverged(steps, f"a learning rate of {rate:g} makes parameters that are not finite")
        self.numbers = {"step": self.step, "loss": steps[-3], "lr": rate, "logit_scale": logit_scale}
        self.numbers |= {"tau": float(np.exp(-logit_scale)), "d_logit_scale": steps[-1], "grad_norm": steps[-2]}

    def learned_nothing(self):
        """A sentence where the last losses are still that of guessing which text belongs to a picture, else ""."""
        losses, guessing = [row["loss"] for row in self.log.rows if "loss" in row], math.log(self.config.batch_size)
        loss = min(losses[-3:], default=0.0)  # one small batch alone may be hard
        if not self.numbers or loss < 0.98 * guessing:
            return ""
        kind, n = "that of" if loss < 1.02 * guessing else "more than that of", self.config.batch_size
        return (
            f"the loss, {loss:.3f}, is {kind} guessing one of {n} (ln {n} = {guessing:.3f}): the model has learned "
            "nothing here. Try more steps, a lower learning rate, or captions that say more."
        )

    def diverged(self, steps, why):
        """Raise TrainingDiverged."""
        kept = f"The last good checkpoint, of step {self.saved}, is kept in {self.out}"
        raise TrainingDiverged(f"{steps}: {why}. {kept}; try a lower learning rate.")

    @contextmanager
    def drawing_ahead(self, map=map):
        """Meanwhile, on a GPU, a thread draws the batches of this run, one ahead; on the CPU nobody does."""
        batches, size = self.batches, self.model_config["vision_cfg"]["image_size"]
        if self.device == "cpu":
            yield
            return
        try:
            with Prefetch(batches, (self.config.batch_size, 3, size, size), self.step, self.config.steps, map) as ahead:
                self.batches = ahead
                yield
        finally:
            self.batches = batches

    def evaluate(self, evaluation):
        """Ask the averaged model; the scores go into the log. Returns them as a sentence."""
        scores = evaluate(self.model(), evaluation)
        name = scores.pop("name")
        self.log.add({"step": self.step} | {f"eval/{name}/{key}": value for key, value in scores.items()})
        top1, top5, prompts1, prompts5 = (scores[key] for key in ("top1", "top5", "ensemble_top1", "ensemble_top5"))
        return (
            f"step {self.step}: {name}: top-1 {top1:.1%}, top-5 {top5:.1%}; with prompts {prompts1:.1%}, "
            f"{prompts5:.1%}; chance {scores['chance']:.2%}"
        )

    def model(self, averaged=True):
        """The CLIP of this moment: of the averaged parameters, or of those that the next step starts from."""
        flat = self.optimizer.average if averaged else self.params
        return CLIP(flat.tree | self.frozen, self.model_config, self.tokenizer, self.about | {"step": self.step})

    def save(self):
        """Write out/model.safetensors; returns the model."""
        clip = self.model()
        try:
            save(clip, self.out / "model.safetensors")
        except OSError as error:
            whole = f"{self.out / 'last.safetensors'} is whole: --resume writes the model again."
            raise OSError(f"{error} {whole}") from None
        return clip

    def close(self):
        """Let other runs into the folder."""
        self.lock.release()

    def checkpoint(self):
        """Write out/last.safetensors; a kill at any moment leaves the old file or the new one, whole."""
        state = self.optimizer.state() | (self.scaler.state() if self.scaler else {})
        state = to_device(state | {"count": np.array(self.step)}, "cpu")
        write_arrays(self.out / "last.safetensors", state, self.identity)
        self.saved = self.step

    def restore(self, path):
        """Go on from a checkpoint. Raises ValueError where it is of another run."""
        state, identity = read_arrays(path)
        check_same_run(path, identity, self.identity)
        there = {name: self.to_device(array) for name, array in state.items() if name != "count"}
        self.optimizer.restore(there | {"count": state["count"]})
        if self.scaler:
            self.scaler.restore(there)
        self.saved = self.step
