"""The Hugging Face Hub: whether it can be reached, files of models, and data sets."""

import importlib.util
import logging
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpt_classifier.errors import OptionError, UserError, first_line

log = logging.getLogger(__name__)

ANSWER_WITHIN = 4  # seconds


def expect_hub() -> None:
    """Fail at once without a network: the Hub's own client tries for half a minute.

    Raises:
        OSError: the Hub's address is unknown or does not answer. Behind a proxy, and in offline mode, which fails by
            itself, nothing is tried.
    """
    from huggingface_hub import constants

    address = urllib.parse.urlsplit(constants.ENDPOINT)
    if constants.HF_HUB_OFFLINE or urllib.request.getproxies() or not address.hostname:
        return
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname, port), timeout=ANSWER_WITHIN).close()
    except OSError as error:
        raise OSError(f"{address.hostname} can't be reached ({error}).") from error


def fetch_file(hub: str, names: Sequence[str], revision: str | None, beside: Sequence[str] = ()) -> Path:
    """The first of some files that a repository has, from huggingface_hub's cache if it is there.

    Args:
        hub: the repository, such as `openai-community/gpt2`.
        names: of files, the one that is wanted most first.
        revision: commit, tag or branch; `None` for the main branch.
        beside: files that are fetched too, before it, if the repository has them and the cache lacks it.

    Raises:
        UserError: no network and nothing in the cache, no such revision, or none of the files.
    """
    expected = f"a commit, tag or branch of {hub}, or null for its main branch"
    if not isinstance(revision, str | None):
        raise OptionError("revision", expected, revision)
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RevisionNotFoundError

    try:
        for name in names:
            if isinstance(try_to_load_from_cache(hub, name, revision=revision), str):
                return Path(hf_hub_download(hub, name, revision=revision))
        expect_hub()
        for name in (*beside, *names[:-1]):
            try:
                path = hf_hub_download(hub, name, revision=revision)
            except LocalEntryNotFoundError:  # no network: the others can't be fetched either
                raise
            except EntryNotFoundError:
                log.info("%s has no %s", hub, name)
            else:
                if name not in beside:
                    return Path(path)
        return Path(hf_hub_download(hub, names[-1], revision=revision))
    except RevisionNotFoundError as error:
        raise OptionError("revision", expected, revision, f"{hub} has no such revision.") from error
    except Exception as error:  # whatever its HTTP library of the day raises
        raise UserError(
            f"{hub}: expected to fetch {' or '.join(names)} at revision {revision or 'main'} from the Hugging Face Hub "
            f"or to find it in the local cache, but: {first_line(error)} Connect to the network once, or give the path "
            f"of a local copy as weights. experiment=quickstart needs no network."
        ) from error


WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""Of a folder or a repository, in the order in which transformers looks for them."""


def can_fetch(repository: str, revision: str | None = None) -> bool:
    """Whether a repository's weights are in the local cache, or the Hub may have them.

    Args:
        repository: its name on the Hugging Face Hub.
        revision: commit, tag or branch; `None` for the main branch.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    if any(isinstance(try_to_load_from_cache(repository, name, revision=revision), str) for name in WEIGHT_FILES):
        return True
    try:
        expect_hub()
    except OSError:
        return False
    return not constants.HF_HUB_OFFLINE


def expect_datasets() -> None:
    """Refuse to go on without the library datasets, without importing it.

    Raises:
        UserError: it is not installed.
    """
    if importlib.util.find_spec("datasets") is None:
        raise UserError('Data sets of the Hugging Face Hub need the extra datasets: pip install -e ".[datasets]"')


def fetch_dataset(path: str, config: str | None, revision: str | None) -> Mapping[str, Any]:
    """The splits of a data set of the library datasets, by name, from its cache if it is there.

    Args:
        path: its name, or a local folder, with files or as `save_to_disk` leaves it.
        config: which of its configurations; `None` where there is one.
        revision: commit, tag or branch; `None` for the main branch.

    Raises:
        UserError: datasets is not installed.
        OptionError: of `path`, `config` or `revision`: there is no such data set, or it can't be had.
    """
    expect_datasets()
    import datasets

    folder = Path(path).expanduser()
    with _told(path, config):
        if folder.is_dir():
            kept = (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()
            found = datasets.load_from_disk(str(folder)) if kept else datasets.load_dataset(str(folder), config)
        else:
            with _offline_without_network():
                found = datasets.load_dataset(path, config, revision=revision)
    return found if isinstance(found, Mapping) else {"train": found}


@contextmanager
def _offline_without_network() -> Iterator[None]:
    """Inside, datasets looks into its cache alone where there is no network: by itself it tries for half a minute."""
    from datasets import config

    before = config.HF_HUB_OFFLINE
    try:
        expect_hub()
    except OSError as error:
        log.info("%s Looking for the data set in the local cache.", first_line(error))
        config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE = before


@contextmanager
def _told(path: str, config: str | None) -> Iterator[None]:
    """Inside, what datasets raises is told as an error of an option."""
    try:
        yield
    except Exception as error:  # its own kinds, those of its HTTP library, and of a dozen formats
        told = " ".join(str(error).split())
        if "Config name is missing" in told or "BuilderConfig" in told:
            raise OptionError("config", f"a configuration of {path}", repr(config), told[:500]) from error
        raise OptionError(
            "path",
            "the name of a data set on the Hugging Face Hub, in reach or in the local cache, or a folder with one",
            f"{path}: {told[:300] or type(error).__name__}",
            "Connect to the network once, or give a local copy. Data sets that need code of their own can't be read.",
        ) from error
