"""Readers of pairs in Parquet and Arrow files and in folders that `datasets` saved; they need the extra `datasets`.

Rows are read some thousands at a time, only the columns that are wanted; nothing is downloaded and no cache is
written.
"""

import importlib
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regard.data.pairs import Block, FileReader
from regard.data.text_readers import BLOCK, missing_column
from regard.errors import DataError, MissingExtraError


@dataclass(frozen=True)
class ArrowTable(FileReader):
    """Something with named columns that `pyarrow` reads; a column inside a struct has a dotted name.

    Whole numbers are read as their digits if `whole_numbers` says so.
    """

    columns: tuple[str, str]
    whole_numbers: bool = False

    @abstractmethod
    def tables(self) -> Iterator[Any]:
        """Yield the rows as `pyarrow` tables or record batches that have the columns."""

    def blocks(self) -> Iterator[Block]:
        """Yield the two columns."""
        first = 1
        with _readable(self.path):
            for table in self.tables():
                problems: dict[int, str] = {}
                sides = [self._texts(table, column, first, problems) for column in self.columns]
                yield Block(range(first, first + len(sides[0])), sides[0], sides[1], problems)
                first += len(sides[0])

    def _texts(self, table: Any, column: str, first: int, problems: dict[int, str]) -> list[str]:
        cells = _column(table, column, self.path, self.whole_numbers)
        try:
            return [(cell or "").strip() for cell in cells.to_pylist()]
        except UnicodeDecodeError:
            texts = []
            for index, cell in enumerate(cells.cast("binary").to_pylist()):
                try:
                    texts.append((cell or b"").decode("utf-8").strip())
                except UnicodeDecodeError as error:
                    place = f"byte 0x{cell[error.start]:02x} at position {error.start + 1}"
                    problems.setdefault(
                        index, f"{self.path}, row {first + index}: {column!r} is not valid UTF-8: {place}"
                    )
                    texts.append(cell.decode("utf-8", "replace").strip())
            return texts


class ParquetFile(ArrowTable):
    """A Parquet file."""

    def tables(self) -> Iterator[Any]:
        """Yield record batches of the two columns alone."""
        with _import("pyarrow.parquet", self.path).ParquetFile(self.path) as file:
            for column in self.columns:
                _check_column(file.schema_arrow, column, self.path)
            yield from file.iter_batches(BLOCK, columns=list(self.columns))


class ArrowFile(ArrowTable):
    """An Arrow file, as a stream (`datasets` writes those) or with an index at its end (Feather)."""

    def tables(self) -> Iterator[Any]:
        """Yield record batches, from a memory-mapped file."""
        pyarrow = _import("pyarrow", self.path)
        with pyarrow.memory_map(str(self.path)) as mapped:
            try:
                stream = pyarrow.ipc.open_stream(mapped)
            except pyarrow.ArrowInvalid:
                file = pyarrow.ipc.open_file(mapped)
                stream = (file.get_batch(index) for index in range(file.num_record_batches))
            for batch in stream:
                for start in range(0, batch.num_rows, BLOCK):
                    yield batch.slice(start, BLOCK)


class ParquetFolder(ArrowTable):
    """A folder of Parquet files, read in the order of their names."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The Parquet files."""
        return tuple(sorted(self.path.glob("*.parquet")))

    def tables(self) -> Iterator[Any]:
        """Yield the record batches of each file."""
        for path in self.files:
            yield from ParquetFile(path, self.columns).tables()


class SavedDataset(ArrowTable):
    """A folder that `datasets.Dataset.save_to_disk` wrote."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The files in the folder."""
        return tuple(sorted(path for path in self.path.iterdir() if path.is_file()))

    def tables(self) -> Iterator[Any]:
        """Yield tables, from memory-mapped files."""
        dataset = _import("datasets", self.path).load_from_disk(str(self.path))
        if isinstance(dataset, dict):
            parts = ", ".join(str(self.path / name) for name in dataset)
            raise DataError(f"{self.path}: holds several parts; give one of them: {parts}")
        yield from dataset.with_format("arrow").iter(batch_size=BLOCK)


def is_saved_dataset(folder: Path) -> bool:
    """Whether a folder was written by `save_to_disk`, with one part or several."""
    return (folder / "state.json").exists() or (folder / "dataset_dict.json").exists()


def _check_column(schema: Any, column: str, path: Path) -> None:
    if column not in (names := list(_names(schema))):
        raise missing_column(str(path), column, names)


def _names(fields: Any, prefix: str = "") -> Iterator[str]:
    """The columns, those inside structs with dots."""
    pyarrow = importlib.import_module("pyarrow")
    for one in fields:
        if pyarrow.types.is_struct(one.type):
            yield from _names([one.type.field(index) for index in range(one.type.num_fields)], f"{prefix}{one.name}.")
        else:
            yield f"{prefix}{one.name}"


def _column(table: Any, column: str, path: Path, whole_numbers: bool) -> Any:
    """A column as a `pyarrow` array of strings; null inside a struct that is null."""
    _check_column(table.schema, column, path)
    if column in table.schema.names:
        cells = table.column(column)
    else:
        first, *rest = column.split(".")
        cells = importlib.import_module("pyarrow.compute").struct_field(table.column(first), rest)
    types = importlib.import_module("pyarrow").types
    kind = cells.type.value_type if types.is_dictionary(cells.type) else cells.type
    if whole_numbers and types.is_integer(kind):
        return cells.cast("string")
    if not (types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)):
        raise DataError(f"{path}: column {column!r} holds {cells.type}, expected text")
    return cells


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Errors of `pyarrow` and `datasets` while reading become ones that name the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    except ValueError as error:  # pyarrow.ArrowInvalid is one
        raise DataError(f"{path}: damaged, or not what its name says: {error}") from error


def _import(module: str, path: Path) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{path}: to read this kind of file, install the extra: pip install 'regard[datasets]'"
        ) from error
