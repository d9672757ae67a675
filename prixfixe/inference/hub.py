"""Bundles on the Hugging Face hub: `hf://owner/name`, or `hf://owner/name@revision` (a branch, a tag or a commit).

A revision is resolved to one commit first, and only files of that commit are read: a branch that moves meanwhile mixes
nothing. Files are data: they are checked as those of any bundle (`prixfixe.runs.bundle`), and nothing is executed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prixfixe.common.errors import InputError
from prixfixe.common.extras import extra_module
from prixfixe.common.text import printable
from prixfixe.runs.bundle import CARD, FILE, FREE, open_bundle

NAME = re.compile(r"hf:/{1,2}([\w][\w.-]{0,95}/[\w][\w.-]{0,95})(?:@([\w][\w./-]{0,200}))?")
COMMIT = re.compile(r"[0-9a-f]{40}")
SECONDS = 20  # to wait for the hub's first answer


def parse(name: str) -> tuple[str, str | None]:
    """owner/name, and the revision or None."""
    found = NAME.fullmatch(name)
    if not found:
        raise InputError(f"{printable(name, 300)}: a bundle on the hub is hf://owner/name or hf://owner/name@revision")
    return found[1], found[2]


def download(name: str) -> tuple[Path, Path, str]:
    """The folder with the files of one commit, the folder that its links lead to, and the name with that commit.

    What has been downloaded before is not again; a whole commit that is there needs no network. InputError where the
    hub cannot be reached, or has no such thing.
    """
    repository, revision = parse(name)
    hub = extra_module("huggingface_hub", "hub", f"hf://{repository}")
    with _reached(repository, revision):
        commit = revision if revision and COMMIT.fullmatch(revision) else _commit(hub, repository, revision)
        folder = Path(_snapshot(hub, repository, commit))
    full = f"hf://{repository}@{commit}"
    if revision != commit:
        print(f"hf://{repository}: commit {commit} (name it as {full} to get the same again)", file=sys.stderr)
    return folder, folder.parent.parent / "blobs", full


def _commit(hub: Any, repository: str, revision: str | None) -> str:
    sha = str(hub.HfApi().model_info(repository, revision=revision, timeout=SECONDS).sha)
    if not COMMIT.fullmatch(sha):
        raise InputError(f"hf://{repository}: the hub names no commit, but {printable(sha, 100)}")
    return sha


def _snapshot(hub: Any, repository: str, commit: str) -> str:
    """The folder of a commit, from the cache alone where it is whole there."""
    try:
        folder = hub.snapshot_download(repository, revision=commit, local_files_only=True)
        open_bundle(Path(folder), Path(folder).parent.parent / "blobs")
    except (hub.errors.LocalEntryNotFoundError, InputError):
        return str(hub.snapshot_download(repository, revision=commit))
    return str(folder)


def push(folder: Path, name: str) -> str:
    """Uploads a bundle as one commit, and returns its name with that commit. A card that the repository has stays as it
    is, files of an earlier bundle are removed. InputError where the hub refuses."""
    repository, revision = parse(name)
    if revision is not None:
        raise InputError(f"{printable(name, 300)}: a bundle is pushed to hf://owner/name, without a revision")
    bundle = open_bundle(folder)
    hub = extra_module("huggingface_hub", "hub", "--push")
    with _reached(repository, None):
        api = hub.HfApi()
        api.create_repo(repository, exist_ok=True)
        there = set(api.list_repo_files(repository))
        if there - FREE and FILE not in there:
            raise InputError(f"hf://{repository} holds files and no bundle: push to a repository of its own")
        new = {*bundle.facts["files"], FILE, *([] if CARD in there else [CARD])}
        done = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            commit_message=f"Bundle of {len(bundle.members)} run(s), prixfixe {bundle.facts['prixfixe']}",
            allow_patterns=sorted(new),
            delete_patterns=sorted(there - new - FREE),
        )
    return f"hf://{repository}@{done.oid}"


@contextmanager
def _reached(repository: str, revision: str | None) -> Iterator[None]:
    """Inside, whatever the hub's client raises becomes an InputError."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # of the network, of the client, of the hub: of many kinds
        kind, words = type(error).__name__, printable(" ".join(str(error).split()), 300)
        at = f" at {revision}" if revision else ""
        advice = {
            "RepositoryNotFoundError": "there is no such repository, or it is private: log in with hf auth login",
            "RevisionNotFoundError": "it has no such revision",
            "OfflineModeIsEnabled": "HF_HUB_OFFLINE is set: name a commit that was downloaded before",
        }.get(kind, "is there a network? a commit that was downloaded before, hf://owner/name@COMMIT, needs none")
        raise InputError(f"hf://{repository}{at} cannot be used ({kind}: {words}); {advice}") from error
