"""Seconds to a trained model: accuracy on a training style left out, against the seconds of training it.

    python benchmarks/speedrun.py                    the preset `default`, ours and PyTorch's: a quarter of an hour
    python benchmarks/speedrun.py --record           and keep both in the table of records
    python benchmarks/speedrun.py --steps 100        a short run, with a schedule as short
    python benchmarks/speedrun.py --sides ours       without PyTorch
    python benchmarks/speedrun.py --table            only print the table of records, as Markdown

Emoji of all training styles but one are learned, and those of that one named (Noto; --style another), so that choosing
what is fast does not look at Fluent. Two processes train the same model with the same recipe:

    ours     miniclip's training run, step by step
    torch    PyTorch, eager: the same initial parameters, batches, loss, clipping, optimisers, schedule, moving average

Both get their batches from miniclip, and the drawing of them counts for both. They take turns of a few steps, and the
one that does not have its turn sleeps; every other round goes the other way about. The losses of the first steps must
agree, else the exit status is 1. Seconds are those of drawing and training, not of starting a process, reading
pictures, or asking the model. What was trained is judged by miniclip, for both, by its moving average.

BLAS's environment variables that would choose its kernels or threads are removed for both. A record says the machine,
the threads, the seed, the commit, the date and the command; with --name, whose it is. To add one: run this with
--record, and commit the JSON file.
"""

import argparse
import importlib.util
import json
import math
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from common import NAMES, RESULTS, ROOT, Disagree, NotPossible, Worker, describe, machine, write_json
from cpu_worker import answers

from miniclip.backend import cpu_count, worker_threads
from miniclip.data import load_data
from miniclip.data.emoji import read_catalogue
from miniclip.evaluation import evaluate
from miniclip.init import is_resnet
from miniclip.loss import true_entries
from miniclip.model import CLIP
from miniclip.optim import learning_rate
from miniclip.training import PRESETS, Run, keep_freed_memory, preset
from miniclip.training.muon import matrices
from miniclip.tree import flatten, unflatten

FILE = RESULTS / "speedrun.json"
COMPARED = 5  # steps whose losses must agree
AGREE = 1e-4  # relative; what rounding leaves after five steps is about 1e-6
TURN = 20  # steps that a side takes before the next has its turn
COLUMNS = "top1 top5 seconds steps ms_a_step input side preset style seed threads machine commit date name".split()


class Ours:
    """miniclip's run: what the training loop does in a step, without keeping checkpoints."""

    def __init__(self, run):
        self.run = run

    def step(self, map):
        """One step: (the loss, the seconds of drawing its batch)."""
        start = time.perf_counter()
        micro_batches = self.run.draw(map)
        drawn = time.perf_counter() - start
        result = self.run.differentiate(micro_batches, map)
        self.run.update(result, micro_batches, map)
        return float(result["loss"]), drawn

    def model(self):
        """The CLIP of the averaged parameters."""
        return self.run.model()


def torch_side(run, threads):
    """The same run in PyTorch: parameters and batches are those of a `Run`, which takes no step itself."""
    import peers_torch
    import torch
    import torch.nn.functional as F

    config, model_config = run.config, run.model_config

    class Theirs(peers_torch.Torch):
        def __init__(self):
            settings = {key: getattr(config, key) for key in ("weight_decay", "learning_rate", "epsilon")}
            settings["betas"] = config.beta1, config.beta2
            nothing = np.zeros((0, 3, 1, 1), np.float32), np.zeros((0, 1), np.int64)
            muon = matrices(run.tree, model_config) if config.optimizer == "muon" else {}
            super().__init__(flatten(run.tree), *nothing, model_config, settings, threads, muon=muon)
            self.count, self.average = 0, {name: leaf.detach().clone() for name, leaf in self.p.items()}
            self.statistics = [name for name in self.p if "running_" in name]
            self.layout = torch.channels_last if is_resnet(model_config) else torch.contiguous_format

        def encode(self, p, images):
            if is_resnet(model_config):
                return peers_torch.modified_resnet(p, images, model_config, training=True)
            return peers_torch.vision_transformer(p, images, model_config)

        def loss_of(self, micro_batches, positives):
            """The loss of a batch. The norms of pictures take their statistics from each micro-batch, as ours do."""
            before = {name: self.p[name] for name in self.statistics}
            moved = [{name: leaf.clone() for name, leaf in before.items()} for _ in micro_batches]
            pictures = [
                torch.from_numpy(pictures).contiguous(memory_format=self.layout) for pictures, _ in micro_batches
            ]
            images = [self.encode(self.p | part, some) for part, some in zip(moved, pictures)]
            for name in self.statistics:
                self.p[name] = torch.stack([part[name] for part in moved]).mean(0)
            tokens = np.concatenate([tokens for _, tokens in micro_batches])
            longest = (tokens == model_config["text_cfg"]["vocab_size"] - 1).argmax(1).max() + 1
            texts = peers_torch.encode_text(self.p, torch.from_numpy(tokens[:, :longest]), model_config)
            z_image, z_text = F.normalize(torch.cat(images), dim=-1), F.normalize(texts, dim=-1)
            z_text, total = z_text.reshape(len(z_image), len(positives), -1), 0
            weights = (1, config.description_weight)[: len(positives)]
            for c, (weight, true) in enumerate(zip(weights, positives)):
                logits = self.p["logit_scale"].exp() * z_image @ z_text[:, c].T
                of_rows = of_columns = torch.arange(len(logits))
                if true is not None:  # the truth of a row or a column is shared by several
                    rows, columns, x, y = true_entries(len(logits), true, np.zeros(0, np.float32))
                    of_rows, of_columns = torch.zeros_like(logits), torch.zeros_like(logits)
                    of_rows[rows, columns], of_columns[columns, rows] = torch.from_numpy(x), torch.from_numpy(y)
                total = total + weight * (F.cross_entropy(logits, of_rows) + F.cross_entropy(logits.T, of_columns)) / 2
            return total / sum(weights)

        def step(self, map):
            start = time.perf_counter()
            micro_batches = run.batches(self.count, map)
            drawn = time.perf_counter() - start
            for leaf in self.learned.values():
                leaf.grad = None
            loss = self.loss_of(micro_batches, run.positives(self.count))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.learned.values(), config.max_grad_norm)
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(self.count, config.steps, config.learning_rate, config.warmup)
                optimizer.step()
            self.count += 1
            with torch.no_grad():
                self.p["logit_scale"].clamp_(max=math.log(100))
                follow = 1 - min(config.ema_decay, self.count / (self.count + 9))
                torch._foreach_lerp_(list(self.average.values()), [self.p[name] for name in self.average], follow)
            return loss.item(), drawn

        def model(self):
            arrays = {name: leaf.numpy() for name, leaf in self.average.items()}
            return CLIP(unflatten(arrays), model_config, run.tokenizer)

    return Theirs()


def work(side, name, steps, seed, style, threads, quick):
    """A worker process: answers {"do": "steps", "times": n} and {"do": "evaluate"} until its input ends."""
    answer = answers()
    keep_freed_memory()
    config = preset(name, steps=steps, seed=seed)
    data, evaluations = load_data("emoji", seed=seed, hold_out_style=style)
    exam = evaluations[0]
    if quick:
        config = replace(config, batch_size=16, micro_batch=8)
        exam = replace(exam, pictures=exam.pictures[:40], answer=exam.answer[:40])
    with tempfile.TemporaryDirectory() as folder, np.errstate(all="ignore"), worker_threads(threads) as pool:
        run = Run(data, config, folder)
        trained = Ours(run) if side == "ours" else torch_side(run, threads)
        for line in sys.stdin:
            command = json.loads(line)
            if command["do"] == "evaluate":
                answer(evaluate(trained.model(), exam) | {"steps": config.steps})
                continue
            start, losses, drawing = time.perf_counter(), [], 0.0
            for _ in range(command["times"]):
                loss, drawn = trained.step(pool.map)
                losses.append(loss)
                drawing += drawn
            answer({"seconds": time.perf_counter() - start, "drawing": drawing, "losses": losses})
        run.folder.close()


def race(workers, steps, evaluate_every=0):
    """Train on all sides in turns. -> {side: {"seconds", "drawing", "losses", "curve": [[steps, seconds, top1, top5]]}}

    Raises Disagree where the losses of the first steps differ.
    """
    found = {side: {"seconds": 0.0, "drawing": 0.0, "losses": [], "curve": []} for side in workers}
    done, turn = 0, 0
    while done < steps:
        times = min(COMPARED if not done else TURN, steps - done)
        if evaluate_every:
            times = min(times, evaluate_every - done % evaluate_every)
        for side in list(workers)[:: -1 if turn % 2 else 1]:
            told = workers[side].ask(do="steps", times=times)
            for key, value in told.items():
                found[side][key] += value
        done, turn = done + times, turn + 1
        if done <= COMPARED:
            check_losses({side: result["losses"] for side, result in found.items()})
        if done == steps or evaluate_every and done % evaluate_every == 0:
            for side, worker in workers.items():
                scores = worker.ask(do="evaluate")
                found[side]["curve"].append([done, found[side]["seconds"], scores["top1"], scores["top5"]])
            print(", ".join(f"{NAMES[side]} {progress(found[side])}" for side in workers), flush=True)
    return found


def check_losses(losses):
    """Raises Disagree unless {side: losses} are the same up to rounding."""
    ours = np.array(losses["ours"])
    for side, theirs in losses.items():
        apart = abs(np.array(theirs) - ours) / ours
        if not (apart <= AGREE).all():
            step = int(np.argmax(~(apart <= AGREE)))
            raise Disagree(
                f"{NAMES[side]} has the loss {theirs[step]:.6f} at step {step + 1}, miniclip {ours[step]:.6f}: sides "
                "that train differently are not timed."
            )


def progress(result):
    """Where a side is, in words."""
    steps, seconds, top1, top5 = result["curve"][-1]
    return f"step {steps}, {seconds:.1f} s: {top1:.1%}, {top5:.1%}"


def commit():
    """The commit that is checked out, with a + where files differ from it; "unknown" without Git."""
    words = "git", "-C", str(ROOT), "describe", "--always", "--abbrev=7", "--exclude=*", "--dirty=+"
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def records(found, options, where):
    """What is kept of each side: a list of dicts that JSON can hold."""
    command = " ".join(["python", "benchmarks/speedrun.py", *options.words])
    kept = []
    for side, result in found.items():
        steps, seconds, top1, top5 = result["curve"][-1]
        row = {"top1": top1, "top5": top5, "seconds": seconds, "steps": steps, "ms_a_step": 1000 * seconds / steps}
        row |= {"input": result["drawing"] / seconds, "side": NAMES[side], "preset": options.preset}
        row |= {"style": options.style, "seed": options.seed, "threads": options.threads}
        row |= {"machine": where["processor"], "commit": commit(), "date": where["time"][:10], "name": options.name}
        kept.append(row | {"command": command, "load": where["load"], "curve": result["curve"]})
    return kept


def read_records(path):
    """The list of records in a file, [] where there is none. Raises NotPossible where it holds something else."""
    try:
        kept = json.loads(path.read_text())["records"] if path.exists() else []
        if all(set(COLUMNS) <= set(row) for row in kept):
            return kept
    except (ValueError, KeyError, TypeError):
        pass
    raise NotPossible(f"{path} holds no table of records: mend it, or name another file with --json.")


def table(rows):
    """Records as a table in Markdown, the most accurate first; of equal ones the quicker."""
    write = {"top1": "{:.1%}", "top5": "{:.1%}", "seconds": "{:.1f}", "ms_a_step": "{:.0f}", "input": "{:.0%}"}
    lines = ["| " + " | ".join(column.replace("_", " ") for column in COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for row in sorted(rows, key=lambda row: (-row["top1"], row["seconds"])):
        cells = [write.get(column, "{}").format(row[column]) for column in COLUMNS]
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return "\n".join(lines)


def parsed(words):
    """The options; NotPossible where they make no sense."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=[name for name in PRESETS if not PRESETS[name].freeze], default="default")
    parser.add_argument("--steps", type=int, help="instead of the preset's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--style", default="noto", help="left out of training, and asked about (default: noto)")
    parser.add_argument("--threads", type=int, default=cpu_count(), help="of every side; all processors if not given")
    parser.add_argument("--sides", default="ours,torch")
    parser.add_argument("--evaluate-every", type=int, default=0, metavar="STEPS", help="for a curve; takes no seconds")
    parser.add_argument("--record", action="store_true", help="keep the results in the table of records")
    parser.add_argument("--name", default="", help="of who made the record, or what is new about it")
    parser.add_argument("--table", action="store_true", help="print the table of records, and train nothing")
    parser.add_argument("--json", type=Path, default=FILE, help="the file of the records")
    parser.add_argument("--quick", action="store_true", help="batches of 16, for tests")
    options = parser.parse_args(words)
    options.words, options.sides = sys.argv[1:] if words is None else words, options.sides.split(",")
    steps = 1 if options.steps is None else options.steps
    if options.sides not in (["ours"], ["ours", "torch"], ["torch", "ours"]) or min(steps, options.threads) < 1:
        raise NotPossible("--sides are ours, or ours,torch; --steps and --threads at least 1.")
    if options.threads > cpu_count() or min(options.seed, options.evaluate_every) < 0:
        raise NotPossible(f"--threads are at most {cpu_count()}; --seed and --evaluate-every at least 0.")
    styles = {name for name, style in read_catalogue()["styles"].items() if "exam" not in style}
    if options.style not in styles:
        raise NotPossible(f"--style is one of {', '.join(sorted(styles))}: what is fast is not chosen on an exam.")
    if "torch" in options.sides and not options.table and importlib.util.find_spec("torch") is None:
        raise NotPossible("PyTorch is not installed: pip install torch, or leave it out with --sides ours.")
    return options


def main(words=None):
    """Train, print, keep. -> exit status"""
    workers = {}
    try:
        options = parsed(words)
        kept = read_records(options.json)
        if options.table:
            print(table(kept))
            return 0
        where = machine(options.threads)
        print(describe(where), flush=True)
        steps = options.steps or PRESETS[options.preset].steps
        rest = options.preset, steps, options.seed, options.style, options.threads, options.quick
        for side in options.sides:
            workers[side] = Worker("speedrun.py", NAMES[side], "worker", json.dumps([side, *rest]))
        new = records(race(workers, steps, options.evaluate_every), options, where)
        if options.record:
            write_json({"records": kept + new}, options.json)
    except NotPossible as error:
        print(error, file=sys.stderr)
        return error.status
    finally:
        for worker in workers.values():
            worker.close()
    if len(new) > 1:
        ours, theirs = sorted(new, key=lambda row: row["side"] != NAMES["ours"])
        print(f"\nOurs takes {ours['seconds'] / theirs['seconds']:.2f} of PyTorch's time.")
    print("\n" + table(kept + new if options.record else new))
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        work(*json.loads(sys.argv[2]))
    else:
        sys.exit(main())
