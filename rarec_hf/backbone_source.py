"""Where a backbone's weights come from, and which weights they are.

A name such as `HuggingFaceTB/SmolLM2-135M-Instruct` can mean the Hub's weights or the de-quantised ones of a file in a
PyPI wheel. They differ, and an alignment trained on the one is wrong on the other. So every backbone has an *address*
(where it came from, exactly) and a *fingerprint* (which weights they are, whatever dtype they were loaded in).
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, cached_file, logging

from .backbone_fingerprint import check_fingerprint, weights_fingerprint
from .backbone_wheel import WHEELS, BackboneNotFoundError, Wheel, converted_folder, weights_are_whole, wheel_at
from .checkpoint_checks import check_shard_names

logger = logging.get_logger(__name__)

DEFAULT_BACKBONE = "HuggingFaceTB/SmolLM2-135M-Instruct"
PROBE_SECONDS = 3.0  # for each step of the one question to the Hub
PROBE_LIMIT_SECONDS = 5.0  # for all of it
_CONFIG_ARGUMENTS = ("revision", "token", "cache_dir", "local_files_only", "trust_remote_code", "subfolder")


@dataclass(frozen=True)
class BackboneSource:
    """
    One backbone, found.

    Args:
        address (`str`):
            What to record: `hub:<repository>@<commit>`, `pypi:<distribution>==<version>#sha256=<hex>` or
            `path:<absolute folder>`. [`resolve_backbone`] takes it back.
        path_or_repo (`str`):
            What any `from_pretrained` takes: a folder on this machine, or a repository to download from.
        revision (`str`, *optional*):
            The commit, for the Hub's weights only.
        kind (`str`):
            `"hub"`, `"pypi"` or `"path"`.
    """

    address: str
    path_or_repo: str
    revision: str | None
    kind: Literal["hub", "pypi", "path"]


def resolve_backbone(
    name_or_path: str | os.PathLike = DEFAULT_BACKBONE,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
    with_tokenizer: bool = True,
) -> BackboneSource:
    """
    Finds a backbone: an existing folder, then the local Hub cache, then the Hub (asked once, for seconds at most),
    then a PyPI wheel that carries the same model. An address, or a name with a `revision`, means exactly these
    weights: the wheel's then never stand in for the Hub's.

    Args:
        name_or_path (`str` or `os.PathLike`, *optional*, defaults to `DEFAULT_BACKBONE`):
            A folder, a repository id on the Hub, or the address of a [`BackboneSource`].
        revision (`str`, *optional*):
            Branch, tag or commit on the Hub.
        cache_dir (`str` or `os.PathLike`, *optional*):
            The Hub cache to look in; the library's default otherwise.
        token (`str` or `bool`, *optional*):
            The Hub token to ask with.
        local_files_only (`bool`, *optional*, defaults to `False`):
            Whether never to ask the Hub.
        with_tokenizer (`bool`, *optional*, defaults to `True`):
            Whether a copy in the local Hub cache must hold the tokenizer too.

    Raises:
        BackboneNotFoundError: nothing was found, or the Hub knows no such repository or gives no access to it.
        ValueError: a folder, or an address, was given together with `revision`.
    """
    name = os.fspath(name_or_path)
    scheme, _, rest = name.partition(":")
    is_address = scheme in ("hub", "pypi", "path") and rest != ""
    if revision is not None and (is_address or os.path.isdir(name)):
        raise ValueError(
            f"`revision` goes with a repository id on the Hub, got {revision!r} with {name!r}. Leave it out."
        )
    if scheme == "pypi" and is_address:
        return _from_wheel(wheel_at(name), "")
    if scheme == "path" and is_address or os.path.isdir(name):
        return _from_folder(rest if is_address else name)
    repo = name
    if is_address:
        repo, _, commit = rest.partition("@")
        revision = commit or None

    source = _from_hub_cache(repo, revision, cache_dir, with_tokenizer)
    if source is None:
        source, why_not = _ask_hub(repo, revision, token, local_files_only)
    if source is not None:
        logger.info(f"Backbone: {source.address}")
        return source

    tried = f"Backbone {name!r}: not a folder, not (or not whole) in the local Hub cache, and the Hub: {why_not}."
    wheel = WHEELS.get(repo) if revision is None else None
    if wheel is None:
        raise BackboneNotFoundError(f"{tried} Give a folder that holds the model, or connect to the Hub once.")
    return _from_wheel(wheel, f"{tried} ")


def load_backbone(
    source: BackboneSource | str | os.PathLike,
    *,
    dtype: torch.dtype | str | None = None,
    bidirectional: bool = False,
    **kwargs: Any,
) -> PreTrainedModel:
    """
    Loads a backbone with `AutoModelForCausalLM`, all of its weights or none.

    Args:
        source ([`BackboneSource`] or `str`): what [`resolve_backbone`] returned, or takes.
        dtype (`torch.dtype` or `str`, *optional*): the library's default (the checkpoint's own) otherwise.
        bidirectional (`bool`, *optional*, defaults to `False`): for types that read either way (BERT's): let text
            tokens see later ones.
        kwargs: passed on untouched (`device_map`, `quantization_config`, `attn_implementation`, ...).

    Raises:
        BackboneNotFoundError: as [`resolve_backbone`].
        ValueError: weights are missing from the checkpoint, where they would have been random; or its index of shards
            names files elsewhere.
        OSError: there are no safetensors files; pickled ones are read with `use_safetensors=False` only.
    """
    source, kwargs = _located(source, kwargs, with_tokenizer=False)
    if "gguf_file" not in kwargs:
        kwargs.setdefault("use_safetensors", True)
        where = {name: kwargs[name] for name in _CONFIG_ARGUMENTS if name in kwargs and name != "trust_remote_code"}
        where["_raise_exceptions_for_missing_entries"] = where["_raise_exceptions_for_connection_errors"] = False
        if (index := cached_file(source.path_or_repo, SAFE_WEIGHTS_INDEX_NAME, **where)) is not None:
            check_shard_names(index)
    if dtype is not None:
        kwargs["dtype"] = dtype
    if "config" not in kwargs:
        where = {name: kwargs[name] for name in (*_CONFIG_ARGUMENTS, "gguf_file") if name in kwargs}
        kwargs["config"] = AutoConfig.from_pretrained(source.path_or_repo, **where)
    set_direction(kwargs["config"], bidirectional)
    model, info = AutoModelForCausalLM.from_pretrained(source.path_or_repo, output_loading_info=True, **kwargs)
    tied = set(model.all_tied_weights_keys)
    random = sorted(set(info["missing_keys"]) - tied) + sorted(str(key) for key in info["mismatched_keys"])
    if random:
        shown = ", ".join(random[:5]) + (", ..." if len(random) > 5 else "")
        raise ValueError(
            f"Expected {source.address} to hold every weight of {type(model).__name__}, got one in which "
            f"{len(random)} are missing or of another shape ({shown}). They would be random: take a whole checkpoint."
        )
    return model


def set_direction(config: PreTrainedConfig, bidirectional: bool) -> None:
    """Sets the direction that a type which reads either way (BERT's) reads its text in; causal is not its default."""
    if hasattr(config, "is_decoder") and not getattr(config, "is_encoder_decoder", False):
        config.is_decoder = not bidirectional


def load_tokenizer(source: BackboneSource | str | os.PathLike, **kwargs: Any) -> PreTrainedTokenizerBase:
    """Loads the tokenizer that belongs to a backbone; arguments as [`load_backbone`]."""
    source, kwargs = _located(source, kwargs, with_tokenizer=True)
    return AutoTokenizer.from_pretrained(source.path_or_repo, **kwargs)


def _located(
    source: BackboneSource | str | os.PathLike, kwargs: dict[str, Any], with_tokenizer: bool
) -> tuple[BackboneSource, dict[str, Any]]:
    """Resolves a name, and tells `from_pretrained` not to look on the network for what lies on this machine."""
    kwargs = dict(kwargs)
    if not isinstance(source, BackboneSource):
        options = {key: kwargs[key] for key in ("cache_dir", "token", "local_files_only") if key in kwargs}
        options["with_tokenizer"] = with_tokenizer
        source = resolve_backbone(source, revision=kwargs.pop("revision", None), **options)
    if os.path.isdir(source.path_or_repo):
        kwargs["local_files_only"] = True
    else:
        kwargs["revision"] = source.revision
    return source, kwargs


def _from_folder(folder: str) -> BackboneSource:
    path = os.path.abspath(folder)
    if not os.path.isfile(os.path.join(path, "config.json")):
        raise BackboneNotFoundError(f"Expected a folder with a model's `config.json`, found none in {path}.")
    logger.info(f"Backbone: path:{path}")
    return BackboneSource(f"path:{path}", path, None, "path")


def _from_wheel(wheel: Wheel, tried: str) -> BackboneSource:
    try:
        folder = converted_folder(wheel)
    except BackboneNotFoundError as error:
        raise BackboneNotFoundError(f"{tried}{error}") from error
    logger.warning(f"{tried}Backbone: {wheel.address} (the model quantised to 4 bits, de-quantised).")
    return BackboneSource(wheel.address, str(folder), None, "pypi")


def _from_hub_cache(
    repo: str, revision: str | None, cache_dir: str | os.PathLike | None, with_tokenizer: bool
) -> BackboneSource | None:
    try:
        config = try_to_load_from_cache(repo, "config.json", cache_dir=cache_dir, revision=revision)
    except HFValidationError as error:
        raise BackboneNotFoundError(
            f"{repo!r} is neither an existing folder nor a repository id on the Hub."
        ) from error
    if not isinstance(config, str):
        return None
    folder = Path(config).parent  # .../snapshots/<commit>
    if not weights_are_whole(folder) or (with_tokenizer and not any(folder.glob("tokenizer*"))):
        return None
    return BackboneSource(f"hub:{repo}@{folder.name}", str(folder), folder.name, "hub")


def _ask_hub(
    repo: str, revision: str | None, token: str | bool | None, local_files_only: bool
) -> tuple[BackboneSource | None, str]:
    """One question to the Hub, never repeated: the found backbone, or `None` and why the Hub could not be reached."""
    if local_files_only:
        return None, "not asked, `local_files_only=True`"
    if constants.is_offline_mode():
        return None, "not asked, offline mode is set (HF_HUB_OFFLINE)"
    url = hf_hub_url(repo, "config.json", revision=revision)
    answer: list[Any] = []

    def ask() -> None:
        try:
            answer.append(get_hf_file_metadata(url, token=token, timeout=PROBE_SECONDS))
        except Exception as error:  # the HTTP library below huggingface_hub, hence its errors, differ by version
            answer.append(error)

    # The timeout bounds connecting and each read, but neither their number nor looking the host's name up.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PROBE_LIMIT_SECONDS)
    if not answer:
        return None, f"no answer from {url} within {PROBE_LIMIT_SECONDS:g} s"
    if isinstance(answer[0], HfHubHTTPError) and answer[0].response.status_code in (401, 403, 404):
        raise BackboneNotFoundError(
            f"The Hub refused {url} (status {answer[0].response.status_code}): no such model, or no access to it. "
            "Check the name, log in with `hf auth login` if the model is private or gated; if it was not the Hub that "
            "answered (a proxy, a login page), set HF_HUB_OFFLINE=1."
        ) from answer[0]
    if isinstance(answer[0], Exception):
        return None, f"{type(answer[0]).__name__}, {answer[0]}"
    commit = answer[0].commit_hash
    if commit is None:  # a login page, for example: the Hub always names the commit
        return None, f"what answered at {url} is not a Hub"
    return BackboneSource(f"hub:{repo}@{commit}", repo, commit, "hub"), ""


__all__ = [
    "DEFAULT_BACKBONE",
    "BackboneNotFoundError",
    "BackboneSource",
    "check_fingerprint",
    "load_backbone",
    "load_tokenizer",
    "resolve_backbone",
    "set_direction",
    "weights_fingerprint",
]
