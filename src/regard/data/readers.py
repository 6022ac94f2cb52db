"""Which reader reads what: pairs of sentences in files of several kinds, recognised by their names.

| given                      | how pairs lie in it                                   | columns               |
|----------------------------|-------------------------------------------------------|-----------------------|
| two files                  | line n of one translates line n of the other          |                       |
| a folder of `datasets`     | saved by `save_to_disk`, or a folder of Parquet files | names                 |
| `.jsonl`, `.ndjson`        | one JSON object a line                                | names                 |
| `.csv`                     | commas, with quotes where needed                      | names, or numbers     |
| `.parquet`, `.arrow`       | columns                                               | names                 |
| any other file             | a tab between columns, no quotes                      | numbers, from 1       |

Text files may be compressed: `.gz`, `.xz`, `.zst` after the name.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from regard.data.arrow_readers import ArrowFile, ParquetFile, ParquetFolder, SavedDataset, is_saved_dataset
from regard.data.compression import SUFFIXES, is_compressed
from regard.data.pairs import Block, PairReader, Row, pairs_of
from regard.data.text_readers import CommaTable, JsonLines, LineFiles, TabTable
from regard.errors import ArgumentError, DataError

__all__ = ["Block", "PairReader", "Row", "open_reader", "pairs_of"]

_NAMED: Final[dict[str, Callable[[Path, tuple[str, str], bool], PairReader]]] = {
    ".jsonl": JsonLines,
    ".ndjson": JsonLines,
    ".parquet": ParquetFile,
    ".arrow": ArrowFile,
}
_WHOLE = (".parquet", ".arrow")  # compressed inside, if at all


def open_reader(
    folder: Path,
    *,
    source: str | None = None,
    target: str | None = None,
    pairs: str | None = None,
    columns: Sequence[int] | Sequence[str] = (1, 2),
    whole_numbers: bool = False,
) -> PairReader:
    """Choose the reader for two files, or for one table of pairs; nothing is read yet.

    Args:
        folder: what the paths are relative to.
        source: source sentences, one a line; with `target`.
        target: target sentences, line by line with the source.
        pairs: instead of both, a table of pairs; its name says how it is read.
        columns: where source and target are in the table: two numbers from 1, or two names.
        whole_numbers: read whole numbers as their digits, where a file tells numbers from text (labels of texts).

    Raises:
        ArgumentError: not exactly one of the two ways is given, or `columns` are not two numbers or two names.
        DataError: columns of the wrong kind for this file, or a kind of file that is not read.
    """
    if pairs is None:
        if source is None or target is None:
            raise ArgumentError("give either source and target, or pairs")
        return LineFiles(folder / source, folder / target)
    if source is not None or target is not None:
        raise ArgumentError("give either source and target, or pairs, not both")
    numbers, names = _columns(columns)
    path = folder / pairs
    if path.is_dir():
        if is_saved_dataset(path):
            return SavedDataset(path, _needed(names, path), whole_numbers)
        if any(path.glob("*.parquet")):
            return ParquetFolder(path, _needed(names, path), whole_numbers)
        raise DataError(f"{path}: is a folder, but neither one saved by `datasets` nor one of Parquet files")
    plain = next((pairs.removesuffix(end) for end in SUFFIXES if pairs.endswith(end)), pairs)
    kind = Path(plain).suffix.lower()
    if kind in _WHOLE and is_compressed(pairs):
        raise DataError(f"{path}: {kind} files are compressed inside; decompress this one first")
    if kind in _NAMED:
        return _NAMED[kind](path, _needed(names, path), whole_numbers)
    if kind == ".csv":
        columns_of_csv = numbers if numbers is not None else names
        assert columns_of_csv is not None
        return CommaTable(path, columns_of_csv)
    if kind == ".json":
        raise DataError(f"{path}: .json is not read; write one object a line and call it .jsonl")
    if numbers is None:
        raise DataError(f"{path}: columns of a tab-separated file are numbers from 1, got {names}")
    return TabTable(path, numbers)


def _columns(columns: Sequence[int] | Sequence[str]) -> tuple[tuple[int, int] | None, tuple[str, str] | None]:
    """The two columns as numbers or as names; the other is None."""
    if len(columns) == 2:
        first, second = columns
        if isinstance(first, int) and isinstance(second, int) and min(first, second) >= 1:
            return (first, second), None
        if isinstance(first, str) and isinstance(second, str):
            return None, (first, second)
    raise ArgumentError(f"columns: got {columns!r}, expected two numbers from 1 or two names")


def _needed(names: tuple[str, str] | None, path: Path) -> tuple[str, str]:
    if names is None:
        raise DataError(f'{path}: columns of such a file have names; give them, for example columns = ["en", "de"]')
    return names
