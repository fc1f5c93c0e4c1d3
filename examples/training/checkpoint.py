"""One file that holds everything a run needs to go on bit for bit: written whole or not at all, read without code."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from training.files import write
from training.history import History
from training.run import Run
from training.settings import Settings, UsageError

FILE = "checkpoint.pt"
FORMAT = 1


def read(folder: Path) -> dict[str, Any]:
    """Read the checkpoint of a run.

    Raises:
        UsageError: it is missing, damaged, holds more than tensors and plain data, or is of another version.
    """
    path = folder / FILE
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UsageError(f"{folder} has no {FILE}: it stopped before its first one, so start it anew") from None
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError) as error:
        reason = str(error).strip().split("\n")[0] or "it is empty"
        raise UsageError(f"{path} cannot be read: {reason}") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise UsageError(f"{path} is not a checkpoint of this version of the example")
    return found


def gathered(state: Any) -> Any:
    """Return a state dict with whole tensors in place of sharded ones, which keep their sharded dim beside them."""
    if isinstance(state, dict):
        return {key: gathered(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(map(gathered, state))
    if hasattr(state, "placements"):
        dims = [placement.dim if placement.is_shard() else None for placement in state.placements]
        return {"sharded": dims, "whole": state.full_tensor().cpu()}
    return state


def scattered(state: Any, mesh: Any) -> Any:
    """Undo `gathered`: over ``mesh``, or for one process if that is ``None``."""
    if isinstance(state, list | tuple):
        return type(state)(scattered(value, mesh) for value in state)
    if not isinstance(state, dict):
        return state
    if set(state) != {"sharded", "whole"}:
        return {key: scattered(value, mesh) for key, value in state.items()}
    if mesh is None:
        return state["whole"]
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    placements = [Replicate() if dim is None else Shard(dim) for dim in state["sharded"]]
    return distribute_tensor(state["whole"].to(mesh.device_type), mesh, placements)


def random_state() -> dict[str, Tensor | list[Tensor]]:
    """Return the state of torch's random generators."""
    return {"cpu": torch.get_rng_state(), "cuda": list(torch.cuda.get_rng_state_all())}


def set_random_state(state: dict[str, Any]) -> None:
    """Set torch's random generators, on as many devices as there are."""
    torch.set_rng_state(state["cpu"])
    for device, saved in zip(range(torch.cuda.device_count()), state["cuda"], strict=False):
        torch.cuda.set_rng_state(saved, device)


def save(run: Run, folder: Path) -> None:
    """Write the checkpoint and the logs; with ``fsdp`` every process takes part."""
    state = gathered({"model": run.model.state_dict(), "optimizer": run.optimizer.state_dict()})
    # Batch norms and losses see the share of one process, so these differ between them.
    buffers = {name: buffer.cpu() for name, buffer in run.model.named_buffers()}
    ranks = run.place.gather({"buffers": buffers, "loss": run.loss, "random": random_state()})
    if not run.place.leads:
        return
    progress = {key: getattr(run, key) for key in ("epoch", "step", "seconds", "lr")}
    history = {"epochs": run.history.epochs, "layers": run.history.layers}
    more = {"scheduler": run.scheduler.state_dict(), "scaler": run.scaler.state_dict(), "effective": run.effective.sums}
    rest = {"settings": run.settings.to_dict(), "ranks": ranks}
    content = io.BytesIO()
    torch.save({"format": FORMAT, **state, **more, **rest, "progress": progress, "history": history}, content)
    write(folder / FILE, content.getvalue())
    run.history.save(folder)


def restore(run: Run, folder: Path) -> None:
    """Go to where the checkpoint in ``folder`` was written.

    Raises:
        UsageError: it cannot be read, or belongs to a run with other settings.
    """
    state = read(folder)
    if not run.settings.same_result(Settings.from_dict(state["settings"])):
        raise UsageError(f"{folder / FILE} and {folder / 'run.json'} belong to different runs")
    parameters: list[Any] = list(run.model.parameters())
    mesh = parameters[0].device_mesh if run.settings.fsdp else None
    run.model.load_state_dict(scattered(state["model"], mesh))
    run.optimizer.load_state_dict(scattered(state["optimizer"], mesh))
    run.scheduler.load_state_dict(state["scheduler"])
    run.scaler.load_state_dict(state["scaler"])
    run.effective.sums = state["effective"]
    for key, value in cast("dict[str, Any]", state["progress"]).items():
        setattr(run, key, value)
    run.history = History(**state["history"])
    own = state["ranks"][run.place.rank % len(state["ranks"])]
    run.model.load_state_dict(own["buffers"], strict=False)
    run.loss = own["loss"]
    set_random_state(own["random"])
