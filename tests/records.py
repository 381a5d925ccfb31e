"""Record files as another program might leave them."""

import json

from leanrag import files


def rewrite_record(path, change):
    """Let `change` edit the fields of a record in place, and give the file the checksum that belongs to them."""
    fields = json.loads(path.read_text(encoding="utf-8"))
    del fields["checksum"]
    change(fields)
    path.write_text(json.dumps({**fields, "checksum": files._checksum(fields)}), encoding="utf-8")
