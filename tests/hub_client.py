"""Turns this process's `huggingface_hub` and `transformers` to a Hub on this machine, as HF_ENDPOINT would have done
before they were imported."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import transformers.utils.hub
from hub_server import HubServer
from huggingface_hub import constants

from rarec_hf import backbone_source

ME, YOU = "hf_of_me", "hf_of_you"


@contextmanager
def local_hub(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[HubServer]:
    """A Hub with the users `me` and `you`, an empty cache, and nobody logged in."""
    server = HubServer({ME: "me", YOU: "you"})
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    for name, value in {
        "ENDPOINT": server.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": server.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(folder / "cache"),
        "HF_TOKEN_PATH": str(folder / "token"),
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_OFFLINE": False,
    }.items():
        monkeypatch.setattr(constants, name, value)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(transformers.utils.hub, "_hf_api", None)  # it keeps the endpoint it was made with
    for name in ("PROBE_SECONDS", "PROBE_LIMIT_SECONDS"):  # this Hub is there, however busy the machine is
        monkeypatch.setattr(backbone_source, name, 120.0)
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def log_in(token: str) -> None:
    """As `hf auth login` does."""
    Path(constants.HF_TOKEN_PATH).write_text(token)


def empty_cache(name: str = "other") -> None:
    """As on another machine: from now on nothing has been downloaded. Undone with the fixture."""
    constants.HF_HUB_CACHE = str(Path(constants.HF_HUB_CACHE).with_name(name))
