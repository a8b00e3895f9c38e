"""Facts kept as JSON: a dict that says which format it is of, written aside and renamed, and refused in words if it is another."""

import json
import os
from pathlib import Path


def write(path, file_format, content, indent=1, default=None):
    """Write a dict with its format first; folders are made, and an interrupted write leaves the last file as it was."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    aside.write_text(
        json.dumps({"format": file_format} | content, indent=indent, default=default, ensure_ascii=False) + "\n"
    )
    os.replace(aside, path)


def read(path, file_format, error, what, remedy):
    """The dict that `write` made, with its format.

    error: exception to raise, with the path, what is wrong (no `what` here) and the remedy, what to do about it.
    """
    try:
        content = json.loads(Path(path).read_text())
    except OSError as cause:
        raise error(f"{path}: no {what} here ({cause.strerror}): {remedy}") from cause
    except ValueError as cause:
        raise error(f"{path}: no {what} here ({cause}): {remedy}") from cause
    if not isinstance(content, dict) or content.get("format") != file_format:
        raise error(f"{path}: not a {what} of format {file_format!r}: {remedy}")
    return content
