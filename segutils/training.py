"""The training loop: any model that answers with its losses in train mode, as torchvision's detectors do."""

import copy
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm import tqdm

from segutils.targets import Pairs
from segutils.training_curve import History, live_curve
from segutils.validation import CheckedPairs, compute_losses, validate


def train(
    model: nn.Module,
    dataset: Pairs,
    *,
    steps: int,
    validation: Pairs | None = None,
    every: int = 50,
    patience: int | None = None,
    checkpoint: str | Path | None = None,
    batch_size: int = 4,
    peak_rate: float = 1e-3,
    dtype: torch.dtype | None = None,
    workers: int = 0,
) -> tuple[nn.Module, History]:
    """Train a copy of a detector, and return it in eval mode with the history of its training.

    AdamW (weight decay 0.02) with a one-cycle rate, and gradients clipped at a norm of 5. What is returned is a running
    average of the weights, which is steadier than the last ones. Parameters with `requires_grad=False` are left as
    they are, and so are the statistics of batch norms whose weights are.

    In a notebook a curve grows while the model learns; elsewhere there is a progress bar. `torch.manual_seed(0)`
    before makes a run repeatable, on one machine with one number of threads. It covers what the dataset draws from
    the generators of torch, numpy and `random`; what it draws from a generator that it keeps itself, it doesn't.

    Args:
        model: returns a dict of losses in train mode, as torchvision's detectors do, on the device to train on.
        dataset: items are pairs of picture, [3, H, W], uint8 or float 0 to 1, and torchvision's training target.
            Each is checked as it's read, see `check_targets`. Regions marked `iscrowd` are left out.
        steps: number of optimiser steps in all, those of an earlier, interrupted call included.
        validation: pairs to judge the model by before the first step, every `every` steps and at the end. The weights
            that did best there are returned, by AP where the model is a detector, else by loss.
        every: steps between two validations, and between two checkpoints.
        patience: stop when so many validations in a row bring nothing better.
        checkpoint: file that gets all that's needed to go on. A later call with the same file goes on from there, and
            ends with the same weights as if it had never stopped. None keeps nothing on disk.
        batch_size: pictures a step.
        peak_rate: highest learning rate.
        dtype: of the arithmetic. None takes bfloat16 where the machine has units for it, which is up to twice as
            fast, else float32. `torch.float32` gives nearly the same result on every machine.
        workers: processes that read the dataset ahead, each a copy of it. 0 reads between the steps.

    Returns:
        The trained model, and one dict a step: `step`, `loss` and its parts; and after a validation `AP`, `AP50`,
        `validation_loss` and its parts. The first is of step 0, and has but the validation.

    Raises:
        TypeError, ValueError: an item is no pair that a model could learn from; there are fewer items than a batch
            needs; the checkpoint is of another run.
        FloatingPointError: the loss or its gradient is not finite; the last checkpoint is left as it was.
    """
    counts = {"steps": steps, "every": every, "patience": patience, "batch_size": batch_size}
    _check_settings(dataset, validation, dtype, counts)
    device = next(model.parameters()).device
    dtype = _choose_dtype(device) if dtype is None else dtype
    model = _train_mode(copy.deepcopy(model))
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not learning:
        raise ValueError("Every parameter of the model has requires_grad=False: there is nothing to train.")
    average = AveragedModel(model, multi_avg_fn=_update_average, use_buffers=True)
    optimiser = torch.optim.AdamW(learning, lr=peak_rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, peak_rate, steps + 1, pct_start=0.1)
    parts = {"model": model, "average": average, "optimiser": optimiser, "schedule": schedule}
    settings = {"steps": steps, "batch_size": batch_size, "peak_rate": peak_rate, "items": len(dataset)}
    run = {"settings": settings, "seed": int(torch.randint(2**31, ())), "history": [], "best": None}
    if checkpoint is not None and Path(checkpoint).exists():
        run = _load_checkpoint(Path(checkpoint), settings, parts)
    history = run["history"]
    judged = None if validation is None else CheckedPairs(validation, model, "validation")

    def judge() -> None:
        """Judge the averaged model, and keep it if it's the best so far."""
        history[-1] |= validate(average.module, judged)
        if len(_stale(history)) == 0:
            run["best"] = {name: value.clone() for name, value in average.module.state_dict().items()}

    def stop() -> bool:
        return patience is not None and len(_stale(history)) >= patience

    if not history:
        history.append({"step": 0})
        if judged is not None:
            judge()
    curve = live_curve(steps)
    done = history[-1]["step"]
    with tqdm(total=steps, initial=done, desc="training", disable=True if curve else None) as bar:
        pairs = CheckedPairs(dataset, model, "dataset", run["seed"])
        for images, targets in () if stop() else _batches(pairs, batch_size, range(done, steps), workers):
            with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
                terms = compute_losses(model, images, targets)
                loss = sum(terms.values())
            optimiser.zero_grad()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(learning, 5)
            if not torch.isfinite(loss + norm):
                raise FloatingPointError(
                    f"the loss is {loss.item()}, its gradient {norm.item()} at step {history[-1]['step']}: "
                    f"lower peak_rate ({peak_rate})"
                )
            optimiser.step()
            schedule.step()
            average.update_parameters(model)
            step = history[-1]["step"] + 1
            history.append({"step": step, "loss": loss.item()} | {n: t.item() for n, t in terms.items()})
            bar.update()
            if step % every == 0 or step == steps:
                if judged is not None:
                    judge()
                if checkpoint is not None:
                    _save_checkpoint(Path(checkpoint), run, parts)
                bar.set_postfix({k: f"{v:.3f}" for k, v in history[-1].items() if k in ("loss", "AP")})
            if curve:
                curve(history)
            if stop():
                break
    if curve:
        curve(history, finished=True)
    trained = average.module
    if run["best"] is not None:
        trained.load_state_dict(run["best"])
    return trained.eval(), history


def _batches(pairs: CheckedPairs, batch_size: int, steps: range, workers: int) -> DataLoader:
    """The batches of these steps: each pass has an order of its own, wherever the steps begin."""
    each_pass, batches = len(pairs) // batch_size, []
    for step in steps:
        number, position = divmod(step, each_pass)
        if position == 0 or not batches:
            order = np.random.default_rng((pairs.seed, number)).permutation(len(pairs)).tolist()
        start = position * batch_size
        batches.append([(number, index) for index in order[start : start + batch_size]])
    return DataLoader(
        pairs,
        batch_sampler=batches,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        collate_fn=_collate,
        generator=torch.Generator(),  # or it would draw from the one that the model draws from
    )


def _collate(items: list[tuple]) -> tuple:
    return tuple(zip(*items, strict=True))


def _stale(history: History) -> list[float]:
    """The results of the validations since the best one: AP, or where there is none the loss, with a minus."""
    rows = [row for row in history if "validation_loss" in row]
    scores = [-row["validation_loss"] if math.isnan(row.get("AP", math.nan)) else row["AP"] for row in rows]
    return scores[scores.index(max(scores)) + 1 :]


def _train_mode(model: nn.Module) -> nn.Module:
    """Switch a model to train mode, but for layers whose own weights are all frozen: batch norms among them."""
    model.train()
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        if own and not any(parameter.requires_grad for parameter in own):
            module.eval()
    return model


def _update_average(averages: list[Tensor], values: list[Tensor], count: int) -> None:
    """The running average reaches back over a tenth of the steps so far, and over 500 at most."""
    get_ema_multi_avg_fn(min(0.998, (1 + float(count)) / (10 + float(count))))(averages, values, count)


def _choose_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where there are units for it, else float32. An older torch can't tell about CPUs, and takes float32."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        has = torch.cpu.get_capabilities()
        fast = has.get("amx_bf16", False) or has.get("avx512_bf16", False)
    else:
        fast = False
    return torch.bfloat16 if fast else torch.float32


def _check_settings(
    dataset: Pairs, validation: Pairs | None, dtype: torch.dtype | None, counts: dict[str, int | None]
) -> None:
    for name, count in counts.items():
        whole = isinstance(count, int) and not isinstance(count, bool) and count >= 1
        if not whole and (name, count) != ("patience", None):
            raise ValueError(f"{name} must be a whole number of at least 1, not {count!r}")
    for name, pairs in (("dataset", dataset), ("validation", validation)):
        if pairs is not None and not (hasattr(pairs, "__getitem__") and hasattr(pairs, "__len__")):
            hint = "; give its dataset" if isinstance(pairs, DataLoader) else ""
            raise TypeError(
                f"{name} must have a length and items {name}[i], not {type(pairs).__name__}{hint}"
            )
    if dtype not in (None, torch.float32, torch.bfloat16):
        raise ValueError(f"dtype must be torch.float32 or torch.bfloat16, not {dtype}")
    if len(dataset) < counts["batch_size"]:
        raise ValueError(
            f"the dataset has {len(dataset)} items, fewer than one batch of {counts['batch_size']}"
        )
    if counts["patience"] is not None and validation is None:
        raise ValueError("patience needs validation: pairs of picture and target to judge the model by")


def _load_checkpoint(path: Path, settings: dict, parts: dict) -> dict:
    """Put all parts where they were, torch's random numbers too, and return the rest."""
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        own = saved["settings"]
    except Exception as error:
        raise ValueError(
            f"{path} is no checkpoint of an interrupted run ({error!r:.80}): name another file, or delete it"
        ) from error
    for name, value in settings.items():
        if own.get(name) != value:
            raise ValueError(
                f"{path} is of a run with {name} {own.get(name)}, not {value}: ask for the same, or delete it"
            )
    for name, part in parts.items():
        try:
            part.load_state_dict(saved.pop(name))
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"{path} is of another model: name another file, or delete it") from error
    torch.set_rng_state(saved.pop("random"))
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(saved.pop("random_cuda"))
    return saved


def _save_checkpoint(path: Path, run: dict, parts: dict) -> None:
    """Write all that's needed to go on. The file appears under its name when it's whole."""
    states = {name: part.state_dict() for name, part in parts.items()}
    states["random"] = torch.get_rng_state()
    states["random_cuda"] = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    torch.save(run | states, unfinished)
    unfinished.replace(path)
