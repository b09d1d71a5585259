"""Models of a Hugging Face hub, pinned to a commit: their folder in the local cache, filled where the machine is online.

A branch or a tag may stand for other weights tomorrow, so that replicas and cached scores would disagree without a word:
only the 40 hex digits of a commit name a model here.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from preceptor.errors import ConfigurationError

TAKEN = ("*.safetensors", "*.json", "*.jinja")  # nothing that is code, and no weights that are unpickled
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_ID = re.compile(rf"({_PART}/{_PART})(?:@(.*))?", re.DOTALL)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class HubModel:
    """One commit of one repository."""

    repository: str
    commit: str

    @property
    def name(self) -> str:
        """The repository's own name, without its owner."""
        return self.repository.partition("/")[2]

    def __str__(self) -> str:
        return f"{self.repository}@{self.commit}"


def is_hub_id(text: str) -> bool:
    """Whether `owner/name`, pinned or not, can only mean a hub: no such folder is there."""
    return _ID.fullmatch(text) is not None and not Path(text).exists()


def parse_hub_id(text: str, field: str) -> HubModel:
    """`owner/name@commit`; an id without a commit is refused, and so is one with a branch or a tag."""
    found = _ID.fullmatch(text)
    if found is None:
        raise ConfigurationError("this is no id of a hub", field=field, value=text, limit="OWNER/NAME@COMMIT")
    repository, commit = found.groups()
    if commit is None or not _COMMIT.fullmatch(commit):
        raise ConfigurationError(
            "no such folder, and a model of a hub is named with its commit: a branch or a tag may be other weights tomorrow",
            field=field,
            value=text,
            limit=f"{repository}@ and the 40 hex digits of a commit",
            hint=f"the hub lists the commits of {repository} under 'Files and versions'",
        )
    return HubModel(repository, commit)


def folder_of(model: HubModel, field: str) -> Path:
    """The model's folder in the cache of `huggingface_hub`; what is missing there is downloaded, unless HF_HUB_OFFLINE is set."""
    cached = _snapshot(model, field, local_only=True)
    if cached is not None and not missing_files(cached):
        return cached
    fetched = _snapshot(model, field, local_only=False)
    missing = ["the whole model"] if fetched is None else missing_files(fetched)
    if fetched is None or missing:
        raise ConfigurationError(
            f"{model} is in the local cache without {', '.join(missing)}, and could not be downloaded",
            field=field,
            value=str(model),
            limit="config.json and safetensors weights",
            hint=f"on a machine that is online: hf download {model.repository} --revision {model.commit}",
        )
    return fetched


def missing_files(folder: Path) -> list[str]:
    """What a model in a cache lacks, such as shards of a download that was interrupted; the cache itself may not notice."""
    wanted = ["config.json", *(_shards(folder / INDEX) if (folder / INDEX).is_file() else [WEIGHTS])]
    return [name for name in wanted if not (folder / name).is_file()]


def _shards(index: Path) -> list[str]:
    try:
        return sorted({str(name) for name in json.loads(index.read_text())["weight_map"].values()})
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ConfigurationError(f"{index} names no shards", field="folder", value=str(index), limit="a weight_map") from error


def _snapshot(model: HubModel, field: str, *, local_only: bool) -> Path | None:
    """The folder of the commit, perhaps not whole; None where it is not there and the hub is out of reach or ruled out."""
    # Imported here: it takes longer than all the rest of a start without a model of a hub.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        found = snapshot_download(
            model.repository, revision=model.commit, allow_patterns=list(TAKEN), local_files_only=local_only
        )
    except (LocalEntryNotFoundError, OfflineModeIsEnabled):
        return None
    except (HfHubHTTPError, OSError) as error:
        raise ConfigurationError(f"{model} could not be fetched: {error}", field=field, value=str(model)) from error
    return Path(found)
