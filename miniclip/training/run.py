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
from zlib import crc32

import numpy as np

from .. import __version__
from ..backend import ALONE, array_module, to_array_on
from ..checkpoints import save
from ..data import TarSet
from ..evaluation import evaluate
from ..gpu import GradScaler, Prefetch, compute_dtype, half_encoders
from ..loss import clip_loss
from ..model import CLIP
from ..optim import learning_rate
from ..train_step import encoders_of, loss_and_gradient, trained_branches
from ..tree import Flat, to_device
from .batches import Batches, fingerprint
from .columns import loss_of_columns
from .gathered_loss import gathered_clip_loss
from .muon import OPTIMIZERS
from .nonfinite import first_nonfinite
from .ranks import check_alike, check_spread
from .ring_loss import ring_clip_loss
from .run_folder import RunFolder
from .start import blended, in_float32, kept_start, new_model, origin
from .tar_batches import TarBatches, for_tars
from .tiled_loss import tiled_clip_loss

LARGE = 8192  # pairs of a batch whose similarity matrix is not held whole


class TrainingDiverged(ArithmeticError):
    """The loss or the gradient stopped being finite; the last good checkpoint is kept."""


class Run:
    """A training run that can stop and go on.

    data: PictureSet or TarSet; config: TrainConfig; out: folder; device: "cpu" or "gpu". `resume` goes on from
    out/last.safetensors where there is one. start: a CLIP to fine-tune, with its own architecture and tokenizer,
    whatever config says of them; None for a new one or, to resume, the one that out keeps. lower_batch: where there
    are fewer things than config wants in a batch, take so many. about: what the model's `about` is to say besides.
    ranks: the processes that train together, of which rank 0 alone reads and writes `out`.
    Raises ValueError when out holds a run and resume is not asked for, or one of another configuration, data or start,
    when a new model is to keep something of what it starts from, and when a batch cannot be spread over the ranks.
    """

    def __init__(
        self, data, config, out, device="cpu", resume=False, start=None, lower_batch=False, about=None, ranks=ALONE
    ):
        self.out, self.device, self.ranks = Path(out), device, ranks
        start = start or ranks.first(lambda: kept_start(self.out) if resume else None)
        if (config.freeze or config.blend < 1) and not start:
            said = f"freeze is {config.freeze!r}" if config.freeze else f"blend is {config.blend}"
            raise ValueError(f"{said}; a new model has nothing to keep: say what to start from.")
        kind, config = (TarBatches, for_tars(config)) if isinstance(data, TarSet) else (Batches, config)
        begun = in_float32(start) if start else new_model(data, config)
        self.tokenizer, self.model_config = begun.tokenizer, begun.config
        least = replace(config, batch_size=2) if lower_batch else config  # so that none is too large
        self.batches = kind(data, self.tokenizer, self.model_config, least)
        self.positives = self.batches.positives
        config = replace(config, batch_size=min(config.batch_size, len(self.batches.things)))
        self.config = self.batches.config = config
        self.mine = partial(self.batches, part=(ranks.rank, ranks.size))  # (step, map) -> micro-batches of this rank
        params = to_device(begun.params, device)
        self.params = Flat(trained_branches(params, config.freeze))
        self.frozen = {branch: params[branch] for branch in params if branch not in self.params.tree}
        self.begun = {branch: params[branch] for branch in self.params.tree} if config.blend < 1 else None
        self.gradient = self.params.like(self.params.vector.copy())
        rest = config.beta1, config.beta2, config.epsilon, config.weight_decay, config.max_grad_norm, config.ema_decay
        self.optimizer = OPTIMIZERS[config.optimizer](self.params, self.model_config, *rest)
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
        check_spread(config, ranks)
        check_alike(ranks, {"version": __version__, "the data": self.identity["data"]} | config.to_json())
        self.folder = RunFolder(self.out, ranks, self.identity)
        try:
            if state := self.folder.begin(resume, begun if start else None):
                self.restore(state)
            else:
                self.checkpoint()
        except BaseException:
            self.folder.close()
            raise

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
        return [(self.to_device(images), tokens) for images, tokens in self.mine(self.step, map)]

    def differentiate(self, micro_batches, map=map):
        """Write the gradient of a batch's loss into `self.gradient`; returns what `loss_and_gradient` does."""
        encoders = encoders_of
        if self.dtype.itemsize == 2:
            encoders = half_encoders(self.dtype, self.scaler and self.scaler.scale)
        losses = [partial(self.loss(len(micro_batches), map), positives=true) for true in self.positives(self.step)]
        loss = loss_of_columns(losses, (1, self.config.description_weight))
        arguments = self.tree, micro_batches, self.model_config, self.gradient, map, self.config.recompute
        return loss_and_gradient(*arguments, loss, encoders, self.ranks)

    def loss(self, tiles, map):
        """The function that is the loss of a batch."""
        if self.ranks.size == 1 and self.device == "gpu":
            return clip_loss if self.config.batch_size < LARGE else tiled_clip_loss
        loss = ring_clip_loss if self.config.ring else gathered_clip_loss
        return partial(loss, ranks=self.ranks, tiles=tiles, map=map)

    def update(self, result, micro_batches, map=map):
        """A step with `self.gradient`. On the CPU it is looked at at once; a GPU is not waited for until `look`.

        Raises TrainingDiverged.
        """
        config, on_cpu = self.config, self.device == "cpu"
        norm = self.optimizer.gradient_norm(self.gradient, map)
        norm = self.ranks.first(lambda: norm) if on_cpu else norm  # whoever decides by it, decides alike
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

    def diverged(self, steps, why):
        """Raise TrainingDiverged."""
        kept = f"The last good checkpoint, of step {self.saved}, is kept in {self.out}"
        raise TrainingDiverged(f"{steps}: {why}. {kept}; try a lower learning rate.")

    @contextmanager
    def drawing_ahead(self, map=map):
        """Meanwhile, on a GPU, a thread draws the batches of this run, one ahead; on the CPU nobody does."""
        mine, size = self.mine, self.model_config["vision_cfg"]["image_size"]
        if self.device == "cpu":
            yield
            return
        shape = self.config.batch_size // self.ranks.size, 3, size, size
        try:
            with Prefetch(mine, shape, self.step, self.config.steps, map) as ahead:
                self.mine = ahead
                yield
        finally:
            self.mine = mine

    def evaluate(self, evaluation):
        """Ask the averaged model, on rank 0; the scores go into the log. Returns them as a sentence."""
        return self.ranks.first(lambda: self.scores(evaluation))

    def scores(self, evaluation):
        """What `evaluate` does on rank 0."""
        scores = evaluate(self.model(), evaluation)
        name = scores.pop("name")
        self.folder.log.add({"step": self.step} | {f"eval/{name}/{key}": value for key, value in scores.items()})
        top1, top5, prompts1, prompts5 = (scores[key] for key in ("top1", "top5", "ensemble_top1", "ensemble_top5"))
        return (
            f"step {self.step}: {name}: top-1 {top1:.1%}, top-5 {top5:.1%}; with prompts {prompts1:.1%}, "
            f"{prompts5:.1%}; chance {scores['chance']:.2%}"
        )

    def model(self, averaged=True):
        """The CLIP of this moment: of the averaged parameters, or of those that the next step starts from."""
        tree = blended(self.begun, self.optimizer.average.tree, self.config.blend) if averaged else self.params.tree
        return CLIP(tree | self.frozen, self.model_config, self.tokenizer, self.about | {"step": self.step})

    def save(self):
        """Write out/model.safetensors; returns the model."""
        clip = self.model()
        try:
            self.ranks.first(lambda: save(clip, self.out / "model.safetensors"))
        except OSError as error:
            whole = f"{self.out / 'last.safetensors'} is whole: --resume writes the model again."
            raise OSError(f"{error} {whole}") from None
        return clip

    def checkpoint(self):
        """Write out/last.safetensors; a kill at any moment leaves the old file or the new one, whole."""
        check_alike(self.ranks, {"their parameters": crc32(to_device(self.params.vector, "cpu"))})
        state = self.optimizer.state() | (self.scaler.state() if self.scaler else {})
        self.folder.write(to_device(state | {"count": np.array(self.step)}, "cpu"))
        self.saved = self.step

    def restore(self, state):
        """Go on from the arrays of a checkpoint. Raises ValueError where they are of another model."""
        there = {name: self.to_device(array) for name, array in state.items() if name != "count"}
        self.optimizer.restore(there | {"count": state["count"]})
        if self.scaler:
            self.scaler.restore(there)
        self.saved = self.step
