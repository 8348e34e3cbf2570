"""Where to compute, and what it can do."""

import contextlib
import ctypes
import logging
import os
import sys
import time

import torch

from gpt_classifier.errors import UserError

log = logging.getLogger(__name__)

EMULATED = 2  # times as long as in float32: less may be chance
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def best_device() -> str:
    """`cuda` or `mps` where there is one, else `cpu`."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def has_native_bf16(device: str) -> bool:
    """Whether a `cuda`, `mps` or `cpu` device multiplies bfloat16 without emulation."""
    if device == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    if device == "cpu":
        capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def slowdown(dtype: torch.dtype, size: int = 256) -> float:
    """How many times as long the CPU takes for a product in a type as in float32: more than 1 where it emulates it.

    Args:
        dtype: such as bfloat16.
        size: rows and columns of the matrices; a product of 256 takes some milliseconds at most, emulated 0.2 s.
    """
    seconds = {}
    for kind in (torch.float32, dtype):
        a = torch.ones(size, size, dtype=kind)
        a @ a  # kernels are chosen at the first product
        began = time.perf_counter()
        a @ a
        seconds[kind] = time.perf_counter() - began
    return seconds[dtype] / seconds[torch.float32]


def warn_if_emulated(precision: str, device: str) -> None:
    """Say how much slower a precision is that a CPU only emulates, before hours are spent."""
    dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)
    if device != "cpu" or dtype is None or (dtype is torch.bfloat16 and has_native_bf16("cpu")):
        return
    factor = slowdown(dtype)
    if factor > EMULATED:
        log.warning(
            "precision %s: this CPU emulates its products, which take %.0f times as long as in float32. "
            "32-true is faster.",
            precision,
            factor,
        )


def pass_tokens(device: torch.device) -> int:
    """How many tokens, padding included, a forward pass without gradients should take at once.

    2,048 keep a few CPU cores busy and stay near their caches; a GPU needs more, or it waits for its kernels' launches.
    """
    return 2048 if device.type == "cpu" else 16_384


def evaluation_tokens(device_type: str) -> int:
    """Tokens of one evaluation batch of texts of like length, as many as keep a device of that type busy."""
    return 4096 if device_type == "cpu" else 32_768


def expect_memory(size: int, what: str) -> None:
    """Refuse what can't fit in this machine's memory, before anything is allocated.

    Args:
        size: in bytes.
        what: needs it, for the message.

    Raises:
        UserError: it is larger than the whole memory. Nothing is checked where the system does not tell.
    """
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows
        return
    if size > total:
        raise UserError(
            f"memory: {what} need {size / 1e9:,.0f} GB, but this machine has {total / 1e9:,.1f} GB. "
            f"Choose a smaller model."
        )


def peak_memory_gb(device: torch.device) -> float | None:
    """Most memory that this process has held so far, in 10^9 bytes: of the GPU where it computes on one.

    `None` where the system does not tell.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e9


def prepare_process(training: bool = False) -> None:
    """Settings of the whole process that computing on a CPU gains from. Commands call it first; a library must not.

    Args:
        training: whether memory should be kept for the next step, too.
    """
    keep_few_kernels()
    if training:
        reuse_freed_memory()


def reuse_freed_memory() -> None:
    """Let the C library keep what is freed, for the next step to use.

    Left to itself glibc returns gradients' memory to the system at each step and asks for it again, and the system
    clears it, page by page: up to half of a step's time on a CPU. Elsewhere than with glibc this does nothing.
    See mallopt(3); 32 MiB is the largest threshold that it takes.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 32 * 2**20)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def keep_few_kernels() -> None:
    """Let oneDNN keep the kernels of some 64 shapes, where it would keep those of 1,024, and torch a list beside them.

    It compiles one for each shape of a product in bfloat16, and texts of all lengths bring ever new ones: a gigabyte
    after a hundred thousand messages. Compiling them again costs less than holding them. This sets two variables of the
    environment, unless they are set, which have no effect once the process has computed with oneDNN.
    See https://uxlfoundation.github.io/oneDNN/dev_guide_primitive_cache.html.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, "64")
