"""What of a saved folder goes to the Hub, and what never does."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, ModelCard
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import filter_repo_objects
from transformers.utils import logging
from transformers.utils.hub import create_and_tag_model_card, hf_api

from .whole_files import replacing

logger = logging.get_logger(__name__)

# Files that are read by unpickling, and who the users are (a run's `users.parquet`)
NEVER_UPLOADED = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt", "*.joblib", "users.parquet")
IGNORE_FILE, CARD_FILE = ".gitignore", "README.md"


def ignore_in_uploads(folder: Path) -> None:
    """
    Names [`NEVER_UPLOADED`] in the folder's `.gitignore`, which the Hub obeys whoever uploads the folder. Trainer's
    own push can be told of no other way, and Trainer writes pickled files.
    """
    file = folder / IGNORE_FILE
    lines = file.read_text("utf-8").splitlines() if file.is_file() else []
    if missing := [pattern for pattern in NEVER_UPLOADED if pattern not in lines]:
        with replacing(file) as temporary:
            temporary.write_text("\n".join([*lines, *missing]) + "\n", "utf-8")
    # Trainer copies a checkpoint's weights into the folder around it and pushes that
    if re.fullmatch(r"checkpoint-\d+", folder.name):
        ignore_in_uploads(folder.parent)


def file_states(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Every file below the folder by its path there, with what changes when it is written anew."""
    files = {path.relative_to(folder).as_posix(): path.stat() for path in folder.rglob("*") if path.is_file()}
    return {name: (stat.st_mtime_ns, stat.st_ino, stat.st_size) for name, stat in files.items()}


class HubPush:
    """
    One push. The repository is made at once, so that a wrong token or name is known before anything is saved.

    Args:
        repo_id (`str`): the repository; without an owner, in the user's own namespace.
        private (`bool`, *optional*): of a repository that is new; by default what the owner's settings say.
        token (`str` or `bool`, *optional*): the one of `hf auth login` otherwise.
        revision (`str`, *optional*): the branch to commit to; made if it is not there.
        create_pr (`bool`): open a pull request instead of committing, which needs no right to write.
        commit_message, commit_description (`str`, *optional*): of the commit.
        tags (`str` or `list[str]`, *optional*): to put into the model card.
        ignore_patterns (`str` or `list[str]`, *optional*): saved files to leave out.
        delete_patterns (`str` or `list[str]`, *optional*): files to delete from the repository in the same commit,
            those uploaded excepted.

    Raises:
        ValueError: `create_pr` with a `revision`.
        HfHubHTTPError: the Hub refused; says what to do about it.
    """

    ARGUMENTS = (
        "private", "token", "revision", "create_pr", "commit_message", "commit_description", "tags",
        "ignore_patterns", "delete_patterns",
    )  # fmt: skip

    def __init__(
        self,
        repo_id: str,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        commit_message: str | None = None,
        commit_description: str | None = None,
        tags: str | Sequence[str] | None = None,
        ignore_patterns: str | Sequence[str] | None = None,
        delete_patterns: str | Sequence[str] | None = None,
    ) -> None:
        if create_pr and revision not in (None, "main"):
            raise ValueError(
                f"`create_pr=True` opens a pull request against the main branch, got `revision={revision!r}` as well. "
                "Leave one of them out; further commits to an open one go to `revision='refs/pr/NUMBER'`."
            )
        self.token, self.create_pr, self.revision = token, create_pr, revision
        self.message, self.description = commit_message or "Upload model", commit_description
        self.tags, self.ignored, self.deleted = _listed(tags), _listed(ignore_patterns), _listed(delete_patterns)
        self.repo_id = repo_id
        with _explained_refusal(repo_id, create_pr):
            self.repo_id = hf_api().create_repo(repo_id, private=private, token=token, exist_ok=True).repo_id
            if revision is not None and not revision.startswith("refs/pr/"):
                hf_api().create_branch(self.repo_id, branch=revision, token=token, exist_ok=True)

    def upload(
        self,
        folder: Path,
        written: Iterable[str],
        owned: Sequence[str],
        make_card: Callable[[Path, str], object] | None = None,
    ) -> CommitInfo:
        """
        Uploads files of a folder in one commit.

        Args:
            folder (`Path`): where they lie.
            written (`Iterable[str]`): their paths in it.
            owned (`Sequence[str]`): patterns of files that such a folder holds or does not; the repository's that are
                not among `written` belonged to an earlier push and are deleted.
            make_card (*optional*): called with the folder and the repository's id, it writes a model card, where
                neither has one.
        """
        with _explained_refusal(self.repo_id, self.create_pr):
            written = {*written, self._write_card(folder, make_card)}
            sent = set(filter_repo_objects(written, ignore_patterns=[*NEVER_UPLOADED, *self.ignored]))
            there = hf_api().list_repo_files(self.repo_id, revision=self.revision, token=self.token)
            outdated = set(filter_repo_objects(there, allow_patterns=list(owned))) - written
            outdated |= set(filter_repo_objects(there, allow_patterns=self.deleted)) - sent if self.deleted else set()
            operations = [CommitOperationDelete(name) for name in sorted(outdated - {".gitattributes"})]
            operations += [CommitOperationAdd(name, folder / name) for name in sorted(sent)]
            logger.info(f"Uploading to {self.repo_id}: {sorted(sent)}; deleting there: {sorted(outdated)}")
            return hf_api().create_commit(
                self.repo_id,
                operations,
                commit_message=self.message,
                commit_description=self.description,
                token=self.token,
                revision=self.revision,
                create_pr=self.create_pr,
            )

    def _write_card(self, folder: Path, make_card: Callable[[Path, str], object] | None) -> str:
        """The folder's model card, else the repository's, else a new one, with the tags added."""
        file = folder / CARD_FILE
        asked = {"revision": self.revision, "token": self.token}
        if not file.is_file() and make_card is not None and not hf_api().file_exists(self.repo_id, CARD_FILE, **asked):
            make_card(folder, self.repo_id)
        if not file.is_file():
            create_and_tag_model_card(self.repo_id, self.tags, token=self.token).save(file)
        elif self.tags:
            card = ModelCard.load(file)
            card.data.tags = list(dict.fromkeys([*(card.data.tags or []), *self.tags]))
            card.save(file)
        return CARD_FILE


@contextmanager
def _explained_refusal(repo_id: str, create_pr: bool) -> Iterator[None]:
    """Adds to the Hub's errors what to do about them."""
    try:
        yield
    except HfHubHTTPError as error:
        if error.response.status_code == 401:
            error.append_to_message(
                f"\nThe Hub knows no user by this token, or none was given. To push to {repo_id}, log in with "
                "`hf auth login` or pass `token=`, one with the right to write (https://huggingface.co/settings/tokens)."
            )
        elif error.response.status_code == 403 and not create_pr:
            error.append_to_message(
                f"\nThis token may not write to {repo_id}. Take one with the role `write`, push to your own "
                "namespace, or propose the files with `create_pr=True`."
            )
        raise


def _listed(values: str | Sequence[str] | None) -> list[str]:
    return [values] if isinstance(values, str) else list(values or ())


__all__ = ["NEVER_UPLOADED", "HubPush", "file_states", "ignore_in_uploads"]
