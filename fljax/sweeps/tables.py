"""Reading a sweep's results.parquet and the latest rows beside it, whatever the files hold."""

from pathlib import Path

import psutil
import pyarrow as pa
from pyarrow import parquet

from fljax.errors import DataError
from fljax.files import open_regular, reading

# Where the rows are that have come since the whole table was written.
PARTS = "parts"
# What a sweep under way is doing.
STATUS = "status.json"
MOST_BYTES = 20_000_000_000
MOST_ROWS = 1_000_000  # cells of a sweep


def read_parquet(path: Path) -> pa.Table:
    """The table in a file, whose own figures must be possible before anything is unpacked.

    Args:
        path: the file.

    Returns:
        The table.

    Raises:
        DataError: it cannot be read, is no Parquet, or claims more than a sweep can have.
    """
    with reading(path, "cannot be read as Parquet"), open_regular(path, MOST_BYTES) as file:
        source = parquet.ParquetFile(file)
        about = source.metadata
        # No more is asked about columns: of damaged ones pyarrow 26 ends the process.
        unpacked = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
        free = psutil.virtual_memory().available
        if not (0 <= about.num_rows <= MOST_ROWS and 0 <= unpacked <= free):
            raise DataError(f"{path} is damaged: it claims {about.num_rows:,} rows, {unpacked:,} bytes")
        table = source.read()
        table.validate(full=True)  # texts that are none, for one
        return table


def parts_of(folder: Path) -> list[Path]:
    """The files with a sweep's latest rows; after a kill the whole table may hold some of them, too."""
    return sorted(folder.glob(f"{PARTS}/*.parquet"))
