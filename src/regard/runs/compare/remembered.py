"""Results that take time to find, kept as JSON beside what they were found of, so that a second run only reads them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from regard.files import write_text

T = TypeVar("T")


def remembered(path: Path, kind: TypeAdapter[T], key: Mapping[str, Any], find: Callable[[], T]) -> T:
    """What was found under `key` before, else what `find` finds now, which is kept.

    Args:
        path: of the file; whatever is wrong with it, it is written anew.
        kind: of the result.
        key: everything that the result depends on, as plain values.
        find: finds it.
    """
    wanted = json.loads(json.dumps(key))
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["key"] == wanted:
            return kind.validate_python(content["found"])
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        pass
    found = find()
    path.parent.mkdir(parents=True, exist_ok=True)
    # a norm may be infinite; only this module reads the file
    content = {"key": wanted, "found": kind.dump_python(found, mode="python")}
    write_text(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")
    return found
