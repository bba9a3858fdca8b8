"""Checks an exported ledger with aics-tlog: check.py FOLDER LOG_VKEY_FILE VALIDATORS_VKEYS_FILE [OLDER_CHECKPOINT].

A folder with a file `minimum-index` has the entry bundles from the index in it on, and all hash tiles.

Prints one JSON object. Exit code 0 if everything verifies, 1 if something does not, anything else is a fault of this script.
"""

import json
import sys
from pathlib import Path

import aics_tlog as t


class Refused(Exception):
    pass


def first_entry(folder):
    path = folder / "minimum-index"
    return int(path.read_text().splitlines()[2]) if path.exists() else 0


def check(folder, log_key_file, validators_file, older_file):
    try:
        log_key = t.parse_vkey(Path(log_key_file).read_text().strip())
        validators = [t.parse_vkey(line) for line in Path(validators_file).read_text().splitlines()]
        note = t.parse_note((folder / "checkpoint").read_bytes())
    except ValueError as e:
        raise Refused(str(e))
    quorum = 2 * len(validators) // 3 + 1
    verified = t.verify_checkpoint(note, log_key, validators, quorum)
    if not verified.ok:
        raise Refused(verified.error)
    size, root = verified.size, verified.root
    reader = t.FileSystemTileReader(folder)
    try:
        first = first_entry(folder)
        audit = t.audit_tiles(reader, size, root, entries=first == 0)
        proven = t.VerifiedTileReader(reader, size, root)
        for index in range(first, size):
            leaf = t.leaf_hash(proven.entry(index))
            path = t.inclusion_proof_from_tiles(reader, index, size)
            if not t.verify_inclusion(leaf, index, size, path, root):
                raise Refused(f"entry {index} is not included")
    except (t.TileMissingError, t.TileUnavailableError, t.TileVerificationError, ValueError) as e:
        raise Refused(f"{type(e).__name__}: {e}")
    report = {
        "size": size,
        "entries": size - first,
        "tiles": audit.tiles,
        "bundles": audit.bundles,
        "cosignatures": verified.cosignature_count,
        "quorum": quorum,
    }
    if older_file:
        older = t.verify_checkpoint(t.parse_note(Path(older_file).read_bytes()), log_key, validators, quorum)
        if not older.ok:
            raise Refused(f"older checkpoint: {older.error}")
        path = t.consistency_proof_from_tiles(reader, older.size, size)
        if not t.verify_consistency(older.size, size, older.root, root, path):
            raise Refused("the ledger does not extend the older checkpoint")
        report["older_size"] = older.size
    return report


def main():
    folder, log_key_file, validators_file = sys.argv[1:4]
    older_file = sys.argv[4] if len(sys.argv) > 4 else None
    try:
        report = check(Path(folder), log_key_file, validators_file, older_file)
    except Refused as e:
        print(json.dumps({"refused": str(e)}))
        return 1
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Exception as e:  # A fault must not look like a refusal.
        print(f"{type(e).__name__}: {e}", file=sys.stderr)
        sys.exit(3)
