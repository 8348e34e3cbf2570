"""What a person is told instead of a traceback."""

import pytest
import torch

from gpt_classifier.errors import UserError
from gpt_classifier.faults import paragraph_of


def caused_by(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


def allocate(size: int) -> Exception:
    try:
        torch.empty(size, dtype=torch.uint8)
    except RuntimeError as error:
        return error
    raise AssertionError("this machine has a lot of memory")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 4 GiB"),
        allocate(2**60),
        RuntimeError("can't start new thread"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."),
        caused_by(ValueError("Error locating target"), MemoryError()),
    ],
)
def test_too_little_memory_is_told_with_what_needs_less(error: Exception) -> None:
    told = paragraph_of(error, "HERE") or ""
    assert told.startswith("There is not enough memory")
    assert "data.batch_size" in told
    assert told.endswith("HERE")


@pytest.mark.parametrize("message", ["[gloo/pair.cc:544] Connection closed by peer [127.0.0.1]:1", "NCCL error in: x"])
def test_a_lost_process_is_told(message: str) -> None:
    assert "Another process of this run ended" in (paragraph_of(RuntimeError(message), "") or "")


def test_a_users_mistake_is_told_whatever_it_led_to() -> None:
    assert (
        paragraph_of(caused_by(MemoryError(), UserError("data.path: no such file.")), "") == "data.path: no such file."
    )


def test_a_fault_of_the_program_is_not_explained_away() -> None:
    assert paragraph_of(RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "") is None
    assert paragraph_of(KeyError("n_layer"), "") is None
