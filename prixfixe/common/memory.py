"""Memory that runs out: how it is told, and what is tried next."""

from __future__ import annotations

import math

import torch


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch, cuBLAS, cuDNN or the CPU's allocator ran out of memory."""
    signs = (
        "out of memory",
        "ALLOC_FAILED",
        "can't allocate memory",
        "unable to find an engine",
    )  # the last is cuDNN without workspace
    return isinstance(error, torch.OutOfMemoryError) or any(sign in str(error) for sign in signs)


def halved(size: int, error: RuntimeError) -> int | None:
    """How many samples to try after `size` of them failed with an error: half as many where memory ran out.

    None where that was with one sample, of which there is no half. Any other error is raised again.
    """
    if not is_out_of_memory(error):
        raise error
    return math.ceil(size / 2) if size > 1 else None
