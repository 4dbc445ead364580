"""The training loop: draw a batch, take a step, tell how it goes, keep what was learned.

Every batch is a function of the seed and the number of the step alone, so a run has no hidden state: its
parameters, the optimiser's two moments, the moving average and the step say all. That is what a checkpoint
holds, and why a run that was killed and resumed ends in the same bits as one that was not.

    out/last.safetensors     to resume from
    out/model.safetensors    the model, at the end: what `miniclip.load` reads
    out/log.jsonl            one JSON object a line: numbers of a step, or an evaluation

On a graphics card the loop runs ahead of the card: batches are drawn by a thread (see prefetch.py), and the
loss is looked at only every `log_every` steps, and before anything is evaluated or kept.
"""

import math
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..backend import array_module, keep_freed_memory, out_of_memory, to_array_on, worker_threads
from ..checkpoints import read_arrays, save, write_arrays
from ..evaluation import evaluate
from ..gpu.matmul import compute_dtype, precision
from ..gpu.mixed_precision import GradScaler, half_encoders
from ..gpu.prefetch import Prefetch
from ..loss import clip_loss
from ..model import CLIP, initialize, model_config
from ..optim import AdamW, learning_rate
from ..tokenizer import Tokenizer
from ..train_step import encoders_of, loss_and_gradient
from ..tree import Flat, to_device
from .batches import Batches, fingerprint
from .clock import READY
from .config import TrainConfig
from .layer_clock import measure_layers
from .log import Log
from .memory import what_fits
from .nonfinite import first_nonfinite
from .tiled_loss import tiled_clip_loss

LARGE = 8192  # pairs of a batch whose similarity matrix is not held whole


class TrainingDiverged(ArithmeticError):
    """The loss or the gradient stopped being finite; the last good checkpoint is kept."""


class Run:
    """A training run that can stop and go on: parameters, optimiser, step, and where they are kept.

    data: PictureSet; recipe: TrainConfig; out: folder; device: "cpu" or "gpu". `resume` goes on from
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
        self.optimizer = AdamW(
            self.params, recipe.beta1, recipe.beta2, recipe.epsilon, recipe.weight_decay, recipe.clip, recipe.average
        )
        self.device, self.to_device = device, to_array_on(device)
        self.dtype = compute_dtype(recipe.precision, device)
        self.loss_scale = GradScaler(array_module(self.params.vector)) if self.dtype == np.float16 else None
        self.loss = clip_loss if recipe.batch < LARGE else tiled_clip_loss
        self.unseen, self.numbers = [], {}
        self.identity = {"recipe": recipe.to_json(), "data": fingerprint(data)}
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
        """One step, looked at at once on the CPU; a GPU is not waited for until `look`. Raises TrainingDiverged."""
        recipe, step, on_cpu = self.recipe, self.step, self.device == "cpu"
        shards = self.draw(step, map)
        result = self.differentiate(shards, map)
        norm = self.optimizer.gradient_norm(self.gradient, map)
        if self.loss_scale:
            self.loss_scale.update(norm)  # a step that it was too large for is left out
        elif on_cpu and not (np.isfinite(result["loss"]) and np.isfinite(norm)):
            where = first_nonfinite(self.params.tree, shards, self.config) or "the backward pass"
            self._break_off(
                f"step {step + 1}",
                f"the loss is {result['loss']}, the gradient's norm {norm}; "
                f"the first numbers that are not finite come from {where}",
            )
        rate = learning_rate(step, recipe.steps, recipe.learning_rate, recipe.warmup)
        self.optimizer.step(self.gradient, rate, map, norm)
        self.unseen.append((rate, result["loss"], norm, result["d_logit_scale"]))
        if on_cpu:
            self.look()

    def draw(self, step, map=map):
        """The shards of a step: pictures on the device, tokens on the host, where the text's end is looked for."""
        return [(self.to_device(images), tokens) for images, tokens in self.batches(step, map)]

    def differentiate(self, shards, map=map):
        """Write the gradient of a batch's loss into `self.gradient`; returns what `loss_and_gradient` does."""
        encoders = encoders_of
        if self.dtype.itemsize == 2:
            encoders = half_encoders(self.dtype, self.loss_scale and self.loss_scale.scale)
        return loss_and_gradient(
            self.params.tree, shards, self.config, self.gradient, map, self.recipe.recompute, self.loss, encoders
        )

    def look(self):
        """Read the steps since the last look, in one go: `numbers` is then a dict of floats of the last one.

        Raises TrainingDiverged: with the step whose loss is not finite, or those between which parameters broke.
        """
        if not self.unseen:
            return
        xp, theta = array_module(self.params.vector), self.params.vector
        read = [number for _, *numbers in self.unseen for number in numbers]
        read += [self.params.tree["logit_scale"], xp.isfinite(theta).all().astype(theta.dtype)]
        *steps, logit_scale, finite = map(float, to_device(xp.stack(read), "cpu"))
        first, rate = self.step - len(self.unseen) + 1, self.unseen[-1][0]
        self.unseen = []
        for step, (loss, norm) in enumerate(zip(steps[::3], steps[1::3]), first):
            if not math.isfinite(loss if self.loss_scale else loss + norm):
                self._break_off(f"step {step}", f"the loss is {loss}, the gradient's norm {norm}")
        if not finite:
            steps = f"step {first}" if first == self.step else f"steps {first} to {self.step}"
            self._break_off(steps, f"a learning rate of {rate:g} makes parameters that are not finite")
        loss, norm, d_logit_scale = steps[-3:]
        self.numbers = {
            "step": self.step,
            "loss": loss,
            "lr": rate,
            "logit_scale": logit_scale,
            "tau": float(np.exp(-logit_scale)),
            "d_logit_scale": d_logit_scale,
            "grad_norm": norm,
        }

    def _break_off(self, steps, why):
        raise TrainingDiverged(
            f"{steps}: {why}. The last good checkpoint, of step {self.saved}, is kept in "
            f"{self.out}; try a lower learning rate."
        )

    @contextmanager
    def drawing_ahead(self, map):
        """Meanwhile, on a GPU, a thread draws the batches of this run, one ahead; on the CPU nobody does."""
        if self.device == "cpu":
            yield
            return
        batches, shape = self.batches, (self.recipe.batch, 3, self.batches.size, self.batches.size)
        try:
            with Prefetch(batches, shape, self.step, self.recipe.steps, map) as self.batches:
                yield
        finally:
            self.batches = batches

    def evaluate(self, evaluation):
        """Ask the averaged model; the scores go into the log. Returns them as a sentence."""
        scores = evaluate(self.model(), evaluation)
        self.log.add(
            {"step": self.step}
            | {f"eval/{evaluation.name}/{key}": value for key, value in scores.items() if key != "name"}
        )
        return (
            f"step {self.step}: {evaluation.name}: top-1 {scores['top1']:.1%}, top-5 {scores['top5']:.1%}; with "
            f"prompts {scores['ensemble_top1']:.1%}, {scores['ensemble_top5']:.1%}; chance {scores['chance']:.2%}"
        )

    def model(self, averaged=True):
        """The CLIP of this moment: of the averaged parameters, or of those that the next step starts from."""
        flat = self.optimizer.average if averaged else self.params
        return CLIP(flat.tree, self.config, self.tokenizer, self.about | {"step": self.step})

    def checkpoint(self):
        """Write out/last.safetensors; a kill at any moment leaves the old file or the new one, whole."""
        state = self.optimizer.state() | (self.loss_scale.state() if self.loss_scale else {})
        state = to_device(state | {"count": np.array(self.step)}, "cpu")
        write_arrays(self.out / "last.safetensors", state, self.identity)
        self.saved = self.step

    def _restore(self, path):
        state, identity = read_arrays(path)
        theirs, ours = identity.get("recipe"), self.identity["recipe"]
        if not isinstance(theirs, dict):
            raise ValueError(f"{path} is no checkpoint of a training run; choose another --out.")
        if identity != self.identity:
            changed = [key for key in ours if theirs.get(key) != ours[key]] or ["the training data"]
            raise ValueError(
                f"{path} is of another run: {', '.join(changed)} differ. "
                "Resume with what it was started with, or choose another --out."
            )
        there = {name: self.to_device(array) for name, array in state.items() if name != "count"}
        self.optimizer.restore(there | {"count": state["count"]})
        if self.loss_scale:
            self.loss_scale.restore(there)
        self.saved = self.step
        self.log.cut(self.step)


def train(
    data,
    recipe=TrainConfig(),
    evaluations=(),
    out="runs/clip",
    threads=None,
    device="cpu",
    resume=False,
    progress=True,
    clock=None,
):
    """Train CLIP on a PictureSet; returns (CLIP of the averaged parameters, rows of the log).

    evaluations: list of Evaluation, taken every recipe.evaluate_every steps and at the end; threads: int or
    None for one a processor, no matter for the result; progress: show a bar; clock: a `Clock` that is to say
    where the time goes. Files in `out`: see the top.
    Raises ValueError for a recipe that does not fit the data or a device that is not there, TrainingDiverged, and
    OutOfMemory, a MemoryError that says what would fit.
    """
    keep_freed_memory()
    run = full = None
    phase = clock.phase if clock else nullcontext
    with worker_threads(threads) as pool, np.errstate(all="ignore"), precision(recipe.precision, device):
        mapping = pool.map if device == "cpu" else map
        try:
            with phase(READY):
                run = Run(data, recipe, out, device, resume)
            if clock:
                clock.watch(run)
            with run.drawing_ahead(pool.map):
                take_steps(run, evaluations, clock.map(mapping) if clock else mapping, progress)
            clip = run.model()
            save(clip, run.out / "model.safetensors")
            if clock:
                clock.stop()
                clock.layers = measure_layers(run, mapping)
        except MemoryError as error:
            full = out_of_memory(error)  # without the frames, which hold what fills the memory
        if full:
            raise what_fits(run, full) if run else full
    return clip, run.log.rows


def take_steps(run, evaluations, mapping, progress):
    """All steps that are left, with what is due between them."""
    recipe = run.recipe
    with tqdm(total=recipe.steps, initial=run.step, disable=not progress, unit="step", dynamic_ncols=True) as bar:
        began, since = time.perf_counter(), run.step
        while run.step < recipe.steps:
            run.advance(mapping)
            last = run.step == recipe.steps
            log, exam, keep = (
                last or every and run.step % every == 0
                for every in (recipe.log_every, recipe.evaluate_every, recipe.checkpoint_every)
            )
            if log or exam or keep:
                run.look()  # before anything is built on it
            bar.update()
            if run.numbers:
                bar.set_postfix(loss=f"{run.numbers['loss']:.3f}", tau=f"{run.numbers['tau']:.3f}", refresh=False)
            if log:
                now = time.perf_counter()
                run.log.add(run.numbers | {"examples_per_second": (run.step - since) * recipe.batch / (now - began)})
                began, since = now, run.step
            for evaluation in evaluations if exam else ():
                bar.write(run.evaluate(evaluation))
            if keep:
                run.checkpoint()
