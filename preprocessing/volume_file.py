"""A volume as one .npz file, without pickle: what one step of the workflow leaves for the next."""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preprocessing.volume import Geometry, Volume

_HEADER = "header"


def write_npz(path: Path, arrays: Mapping[str, NDArray[Any]], header: Mapping[str, Any]) -> None:
    """Write arrays and a JSON header; whoever looks at ``path`` sees the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            np.savez(file, **{_HEADER: text}, **arrays)  # type: ignore[arg-type]  # numpy's type of **kwds
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def read_npz(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Arrays and header as ``write_npz`` wrote them. Raises ``ValueError`` naming the file when it is anything else."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if name != _HEADER}
            return arrays, json.loads(file[_HEADER].tobytes())
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        raise ValueError(f"{path} was not written by this product or is cut short ({error})") from error


def save_volume(path: Path, volume: Volume) -> None:
    """Write one volume."""
    write_npz(path, {"array": volume.array}, {"geometry": asdict(volume.geometry), "source": volume.source})


def load_volume(path: Path) -> Volume:
    """Read what ``save_volume`` wrote. Raises ``ValueError`` when it is something else."""
    arrays, header = read_npz(path)
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in header["geometry"].items()}
    geometry = Geometry(**fields)  # type: ignore[arg-type]  # JSON's types
    return Volume(arrays["array"], geometry, header["source"])
