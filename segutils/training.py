"""The training loop: any model that answers with its losses in train mode, as torchvision's detectors do."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm


def train(
    model: nn.Module,
    dataset: Dataset,
    *,
    steps: int,
    checkpoint: Path,
    batch_size: int = 8,
    peak_rate: float = 2e-3,
    loss_weights: Mapping[str, float] | None = None,
    save_every: int = 250,
    after_saving: Callable[[int, nn.Module], None] | None = None,
) -> nn.Module:
    """Train a torchvision detector and return the running average of its weights, in eval mode.

    AdamW with a one-cycle rate, bfloat16 arithmetic, gradients clipped at a norm of 5. Every `save_every` steps all
    that is needed to go on is written to `checkpoint`; a later call with the same file goes on from there.

    Args:
        model: a model that returns a dict of losses in train mode, on the device to train on.
        dataset: items are pairs of image (float [3, H, W] in 0..1) and training target.
        steps: number of optimiser steps in all, those of an earlier, interrupted call included.
        checkpoint: file to write; its folder is made if need be.
        batch_size: pictures a step.
        peak_rate: highest learning rate.
        loss_weights: factors for parts of the loss, by name; a part that is not named counts once.
        save_every: steps between two checkpoints.
        after_saving: called with the step and the averaged model after each checkpoint.

    Raises:
        ValueError: there are fewer items than a batch needs, or the checkpoint is of a run of another length.
        FloatingPointError: the loss is not finite; the last checkpoint is left as it was.
    """
    if len(dataset) < batch_size:
        raise ValueError(f"the dataset has {len(dataset)} items, fewer than one batch of {batch_size}")
    device, weights = next(model.parameters()).device, loss_weights or {}
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.998), use_buffers=True)
    optimiser = torch.optim.AdamW(model.parameters(), lr=peak_rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, peak_rate, steps + 1, pct_start=0.1)
    step = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        if saved["steps"] != steps:
            raise ValueError(
                f"{checkpoint} is of a run of {saved['steps']} steps, not {steps}: ask for as many, or delete it"
            )
        step = saved["step"]
        for name, part in _parts(model, average, optimiser, schedule).items():
            part.load_state_dict(saved[name])
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    model.train()
    bar = tqdm(total=steps, initial=step, desc="training", disable=None)
    losses = []
    for images, targets in _batches(dataset, batch_size, step):
        if step >= steps:
            break
        images = [image.to(device) for image in images]
        targets = [{name: value.to(device) for name, value in target.items()} for target in targets]
        with torch.autocast(device.type, torch.bfloat16):
            terms = model(images, targets)
            loss = sum(weights.get(name, 1.0) * term for name, term in terms.items())
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss.item()} at step {step}: lower peak_rate ({peak_rate})"
            )
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5)
        optimiser.step()
        schedule.step()
        average.update_parameters(model)
        step += 1
        losses.append(loss.item())
        bar.update()
        if step % save_every == 0 or step == steps:
            bar.set_postfix(loss=f"{np.mean(losses):.3f}")
            losses = []
            parts = _parts(model, average, optimiser, schedule)
            state = {"step": step, "steps": steps} | {name: part.state_dict() for name, part in parts.items()}
            unfinished = checkpoint.with_suffix(".part")
            torch.save(state, unfinished)
            unfinished.replace(checkpoint)
            if after_saving:
                after_saving(step, average.module)
                model.train()
    bar.close()
    return average.module.eval()


def _parts(*parts) -> dict:
    return dict(zip(("model", "average", "optimiser", "schedule"), parts, strict=True))


def _batches(dataset: Dataset, batch_size: int, step: int) -> Iterable:
    """Shuffled batches without end; the dataset's `seed`, where it has one, changes with every pass."""
    epoch = step * batch_size // len(dataset)
    while True:
        if hasattr(dataset, "seed"):
            dataset.seed = epoch
        shuffle = torch.Generator().manual_seed(epoch)
        yield from DataLoader(
            dataset,
            batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=1,
            prefetch_factor=4,
            collate_fn=_collate,
            generator=shuffle,
        )
        epoch += 1


def _collate(items: list[tuple]) -> tuple:
    return tuple(zip(*items, strict=True))


def save_weights(model: nn.Module, folder: Path, name: str) -> Path:
    """Write a model's state dict in half precision to `folder/NAME-HASH.pth` and return the path.

    HASH is the first 8 digits of the file's SHA-256, as in the names of torchvision's weights.
    """
    state = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    unnamed = folder / f"{name}.part"
    torch.save(state, unnamed)
    digest = hashlib.sha256(unnamed.read_bytes()).hexdigest()
    return unnamed.replace(folder / f"{name}-{digest[:8]}.pth")
