"""Tables of samples with paths of their files: `manifest.csv`, or Parquet."""

import csv
import os
from collections import Counter
from pathlib import Path

from msafusion.data.checks import check_unique
from msafusion.data.media.stored import split_key
from msafusion.failures import DataError
from msafusion.files.reading import check_size, reading
from msafusion.text import clean, clean_all, note, printable, texts_of

NAMES = ("manifest.csv", "manifest.parquet")
OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
ROWS_AT_ONCE, BYTES_OF_CELL = 64, 64
"""Of a Parquet file; a text of Python takes so many bytes at least."""


def read_manifest(
    source: Path, needed: tuple[str, ...] = ("id",), optional: tuple[str, ...] = ()
) -> tuple[Path, list[dict[str, str]]]:
    """The table's path and its rows, all as text.

    Args:
        source: the table (.csv or .parquet), or the folder that holds `manifest.csv` or `manifest.parquet`.
        needed: columns of names that there must be; blanks around their entries, and around all others and the
            columns' names, are taken off, with a note.
        optional: columns of names that there may be.

    Raises:
        DataError: no table, no row, a missing column, two columns of one name, a row of another length, a quote that
            swallows rows, an id that occurs twice.
    """
    found = [source / name for name in NAMES if (source / name).is_file()]
    if len(found) > 1:
        raise DataError(f"'{source}' holds {' and '.join(NAMES)}, expected one of them; name the one to read.")
    file = found[0] if found else source
    if not file.is_file():
        raise DataError(
            f"no {NAMES[0]} in '{source}', expected a manifest; give the folder that holds it, or the file."
        )
    names = (*needed, *optional)
    rows = _stripped(_parquet(file, names) if file.suffix.lower() == ".parquet" else _csv(file), names, file)
    if not rows:
        raise DataError(f"'{file}' has no rows, expected one a sample; fill it.")
    if missing := [name for name in needed if name not in rows[0]]:
        raise DataError(
            f"'{file}' has the columns {', '.join(rows[0])}, expected also {', '.join(missing)}; add them, or name "
            "others by the options."
        )
    if "id" in needed:
        check_unique((row["id"] for row in rows), f"'{file}'", "correct it")
    return file, rows


def _csv(file: Path) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = []
    first = 1
    with reading(file, "a CSV file in UTF-8", "save it as one"), file.open(newline="", encoding="utf-8-sig") as opened:
        table = csv.reader(opened, strict=True)
        try:
            names = next(table, [])
            _check_commas(file, names)
            _check_columns(file, names)
            first = table.line_num + 1
            for cells in table:
                if cells:
                    rows.append(_row(names, cells, f"'{file}', row {len(rows) + 1} (line {first})"))
                first = table.line_num + 1
        except csv.Error as error:
            raise DataError(
                f"'{file}', line {first}: this is not CSV ({error}); write a quote that begins a cell as \"\" within "
                "quotes, or take it out."
            ) from None
    return rows


def _row(names: list[str], cells: list[str], where: str) -> dict[str, str]:
    """A row by its columns; a cell that holds what looks like rows has swallowed them by a stray quote."""
    if len(cells) != len(names):
        raise DataError(f"{where}: {len(cells)} cells, expected {len(names)} columns; correct it.")
    for name, cell in zip(names, cells, strict=True):
        if (more := cell.count("\n")) and cell.count(",") >= more * (len(names) - 1):
            raise DataError(
                f"{where}: a quote in column {name} takes {more} more lines, which look like rows; write a quote as "
                '"" within quotes, or take the line breaks out.'
            )
    return dict(zip(names, cells, strict=True))


def _stripped(rows: list[dict[str, str]], names: tuple[str, ...], file: Path) -> list[dict[str, str]]:
    """The rows without blanks around what they hold; columns of names are `written.clean`."""
    if not rows:
        return rows
    columns = list(rows[0])
    stripped = dict(zip(columns, clean_all(columns, f"'{file}', names of the columns"), strict=True))
    _check_columns(file, list(stripped.values()))
    values: dict[str, list[str]] = {}
    for column, name in stripped.items():
        entries = [row[column] for row in rows]
        values[name] = clean_all(entries, f"'{file}', {name}") if name in names else [text.strip() for text in entries]
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]


def _parquet(file: Path, needed: tuple[str, ...]) -> list[dict[str, str]]:
    import pyarrow
    import pyarrow.parquet

    size = file.stat().st_size
    with reading(file, "a Parquet file", "save it as one"):
        with pyarrow.parquet.ParquetFile(
            file, thrift_string_size_limit=size, thrift_container_size_limit=size
        ) as opened:
            meta, taken, batches = opened.metadata, 0, []
            check_size(meta.num_rows * meta.num_columns * BYTES_OF_CELL, size, f"'{file}'")
            check_size(sum(meta.row_group(n).total_byte_size for n in range(meta.num_row_groups)), size, f"'{file}'")
            for batch in opened.iter_batches(ROWS_AT_ONCE, use_threads=False):  # a few bytes can repeat a long text
                taken += batch.nbytes + batch.num_rows * batch.num_columns * BYTES_OF_CELL
                check_size(taken, size, f"'{file}'")
                batches.append(batch)
            table = pyarrow.Table.from_batches(batches, opened.schema_arrow)
        columns = [(name, column.to_pylist()) for name, column in zip(table.column_names, table.columns, strict=True)]
    _check_columns(file, table.column_names)
    texts: dict[str, list[str]] = {}
    for name, values in columns:
        try:
            texts[name] = texts_of(values)
        except ValueError as error:
            if clean(name) in needed:
                raise DataError(f"'{file}', {name}: {error}.") from None
            note(f"'{file}': the column {name} is left out: {error}.")
    return [dict(zip(texts, row, strict=True)) for row in zip(*texts.values(), strict=True)]


def _check_commas(file: Path, names: list[str]) -> None:
    """Spreadsheets of many countries separate columns otherwise."""
    if names and names[0].lower().startswith("sep="):
        raise DataError(f"'{file}' begins with '{names[0]}', which spreadsheets alone understand; remove that line.")
    if len(names) == 1 and (other := next((mark for mark in OTHER_SEPARATORS if mark in names[0]), None)):
        raise DataError(f"'{file}' separates its columns by {OTHER_SEPARATORS[other]}, expected commas; save it so.")


def _check_columns(file: Path, names: list[str]) -> None:
    """Of two columns of one name only the last would count."""
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise DataError(f"'{file}' has two columns '{twice[0]}', expected one; rename or remove the other.")


def inside(folder: Path, text: str, where: str) -> Path:
    """A file that a table names, relative to the table's folder; with `#key` where it has one.

    Raises:
        DataError: an empty name, an absolute path, or one that leaves the folder.
    """
    if not text:
        raise DataError(f"{where}: no file is named, expected a path relative to the table; fill it in.")
    if "\0" in text:  # the system takes no such path
        raise DataError(f"{where}: '{printable(text)}' has a NUL, expected the path of a file; correct it.")
    path, _ = split_key(text)
    whole = Path(os.path.abspath(folder))
    if path.is_absolute() or not Path(os.path.abspath(whole / path)).is_relative_to(whole):
        raise DataError(f"{where}: '{text}' leads out of the table's folder '{folder}', expected a path inside it.")
    return folder / text
