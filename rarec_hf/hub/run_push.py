"""The folder of a whole run, pushed to the Hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import CommitInfo
from huggingface_hub.utils import filter_repo_objects
from transformers import TrainingArguments

from ..checkpoint_folder import OWNED_FILES
from ..hub_upload import HubPush
from ..training.encoder_stage import INNER_ENCODER, OPPONENT_ENCODER, WORD_OPPONENT
from ..training.run_folder import ENVIRONMENT_FILE

# What a run leaves for those who have its machine: paths and commands of it, ids, and models that the run's holds
_OF_THE_MACHINE = (
    *("arguments.yaml", ENVIRONMENT_FILE, "*.parquet"),
    *("checkpoints/*", f"{INNER_ENCODER}/*", f"{OPPONENT_ENCODER}/*", f"{WORD_OPPONENT}/*"),
)


class RunPush:
    """
    The push of a run's folder: the model, its card, and the tables and pictures that the card shows. The repository is
    made at once, so that a wrong token or name is known before anything is trained.

    Args:
        arguments (`TrainingArguments`): `hub_model_id` (else `name`), `hub_private_repo`, `hub_token`, `hub_revision`.
        name (`str`): of the run.

    Raises:
        HfHubHTTPError: the Hub refused; says what to do about it.
    """

    def __init__(self, arguments: TrainingArguments, name: str):
        self._push = HubPush(
            arguments.hub_model_id or name,
            private=arguments.hub_private_repo,
            token=arguments.hub_token,
            revision=getattr(arguments, "hub_revision", None),
            commit_message="End of training",
        )
        self.repo_id = self._push.repo_id

    def upload(self, folder: str | Path) -> CommitInfo:
        """
        Uploads the folder in one commit; model files of an earlier push that this folder does not hold are deleted.
        """
        folder = Path(folder)
        files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        return self._push.upload(folder, filter_repo_objects(files, ignore_patterns=_OF_THE_MACHINE), OWNED_FILES)


__all__ = ["RunPush"]
