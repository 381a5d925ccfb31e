import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from leanrag.retrieval.mapping import checksum_of, map_file


def test_the_checksum_is_that_of_the_part(tmp_path):
    content = bytes(range(256)) * 100
    (tmp_path / "file").write_bytes(content)

    data = map_file(tmp_path / "file")

    assert checksum_of(data, 10, 20_000) == zlib.crc32(content[10:20_000])
    assert data.tobytes() == content  # read again


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_file_that_was_checked_does_not_stay_in_memory(tmp_path):
    (tmp_path / "file").write_bytes(bytes(2**25))

    data = map_file(tmp_path / "file")
    checksum_of(data, 0, len(data))

    maps = Path("/proc/self/smaps").read_text(encoding="utf-8").split(str(tmp_path / "file"))[1]
    resident = next(int(line.split()[1]) for line in maps.splitlines() if line.startswith("Rss:"))
    assert resident < 2**10  # of 2**15 KiB
    assert np.count_nonzero(data) == 0
