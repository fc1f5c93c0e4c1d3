"""Runs a function on several processes that form one gloo group, and compares what they hold."""

import multiprocessing
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import Placement, distribute_tensor

Work = Callable[..., None]


def run_on(ranks: int, work: Work, *args: Any, timeout: float = 300.0) -> None:
    """Call ``work(mesh, *args)`` on every rank, with the mesh of all ranks.

    Args:
        ranks: number of processes.
        work: a function of a module's top level; its arguments must pickle.
        timeout: seconds after which all ranks are killed.

    Raises:
        Exception: a rank raised (the message has its traceback), died or did not come to an end.
    """
    # Ranks are forked from a server that has imported all of torch: imports would cost more than most tests. A forked
    # process also ends without the interpreter's teardown, in which threads of gloo that still run abort the process.
    multiprocessing.set_forkserver_preload(["torch._dynamo", "torch.distributed.fsdp", "torch.distributed.checkpoint"])
    with tempfile.TemporaryDirectory() as folder:
        # Meeting at a file: a free port may be taken by somebody else before it is used.
        arguments = (ranks, str(Path(folder) / "store"), work, args)
        context = mp.start_processes(_rank, arguments, nprocs=ranks, join=False, start_method="forkserver")
        assert context is not None
        deadline = time.monotonic() + timeout
        try:
            while not context.join(timeout=5):  # raises if a rank raised, died or exited with another code than 0
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{work.__name__} did not end on {ranks} ranks within {timeout} s")
        finally:
            for process in context.processes:
                process.kill()


def _rank(rank: int, ranks: int, store: str, work: Work, args: tuple[Any, ...]) -> None:
    warnings.simplefilter("error")  # as in the tests
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    work(init_device_mesh("cpu", (ranks,)), *args)
    dist.barrier()  # or the connections of a rank that is still at work break
    dist.destroy_process_group()


def place(x: Tensor, mesh: DeviceMesh, placements: Sequence[Placement]) -> Tensor:
    """Return ``x``, which every rank holds whole, as a DTensor. Nothing is sent."""
    return distribute_tensor(x.clone(), mesh, placements, src_data_rank=None)


def assert_part(got: Tensor, want: Tensor, where: str, rtol: float = 1e-10) -> None:
    """Assert that the part of ``got`` on this rank equals that of ``want``, which every rank holds whole."""
    if hasattr(got, "placements"):
        want = place(want, got.device_mesh, got.placements).to_local()  # type: ignore[attr-defined]
        got = got.to_local()  # type: ignore[attr-defined]
    torch.testing.assert_close(got, want, rtol=rtol, atol=rtol / 100, msg=lambda text: f"{where}: {text}")
