"""How the files of a run folder are written, and read when they may be missing or damaged."""

import csv
import json
from pathlib import Path
from typing import Any

from kzoo.messages import name_file


def read_json(path: Path) -> Any:
    """The content of a JSON file, None where it is missing or unreadable: a report shows what there is."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write_json(path: Path, content: Any) -> Path:
    """Writes JSON through a temporary file, so that a reader never sees half of it. NumPy numbers become plain ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    text = json.dumps(plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        name_file(error, path)
        raise
    return path


def plain(value: Any) -> Any:
    """The same content in types that JSON knows; NaN and infinities become None, which JSON has a word for."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if hasattr(value, "tolist"):  # NumPy scalars and arrays
        return plain(value.tolist())
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, Path):
        return str(value)
    return value


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a CSV file, numbers as floats; empty where it is missing or unreadable."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return [{k: _number(v) for k, v in row.items() if k} for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


def _number(text: str | None) -> float | str | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return text


def read_config(path: Path) -> dict[str, Any]:
    """The settings of a run; empty where they are missing or unreadable."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}
