"""Zip the packages that Spark's executors need, for `spark-submit --py-files`.

`--py-files` takes .zip, .egg and .py but not .whl. The archive is the same for the same sources.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

PACKAGES = ("licet", "jobs")
_EPOCH = (1980, 1, 1, 0, 0, 0)


def main(target: str) -> None:
    root = Path(__file__).resolve().parent.parent
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for package in PACKAGES:
            for path in sorted((root / package).rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    entry = zipfile.ZipInfo(path.relative_to(root).as_posix(), _EPOCH)
                    entry.compress_type = zipfile.ZIP_DEFLATED
                    archive.writestr(entry, path.read_bytes())


if __name__ == "__main__":
    main(sys.argv[1])
