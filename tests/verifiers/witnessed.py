"""Checks a checkpoint with aics-tlog: witnessed.py CHECKPOINT POLICY WITNESS_VKEY.

One of the policy's logs signed it, more than two thirds of its validators and the witness cosigned it, and with any bit of the
witness's signature changed it does not pass. Prints one JSON object. Exit code 0 or 1; anything else is a fault of this script.
"""

import base64
import json
import sys
from pathlib import Path

import aics_tlog as t


def main():
    checkpoint_file, policy_file, witness_text = sys.argv[1:4]
    text = Path(checkpoint_file).read_bytes()
    words = [line.split() for line in Path(policy_file).read_text().splitlines()]
    logs = [t.parse_vkey(w[1]) for w in words if w[:1] == ["log"]]
    validators = [t.parse_vkey(w[2]) for w in words if w[:1] == ["witness"]]
    witness = t.parse_vkey(witness_text)
    quorum = 2 * len(validators) // 3 + 1

    def passes(note_bytes, keys, needed):
        try:
            note = t.parse_note(note_bytes)
            return any(t.verify_checkpoint(note, log, keys, needed).ok for log in logs)
        except ValueError:
            return False

    lines = text.decode().splitlines(keepends=True)
    (at,) = [i for i, line in enumerate(lines) if line.startswith(f"\u2014 {witness.name} ")]
    signature = bytearray(base64.b64decode(lines[at].split(" ")[2]))
    signature[-1] ^= 1
    lines[at] = f"\u2014 {witness.name} {base64.b64encode(signature).decode()}\n"
    found = {
        "validators": passes(text, validators, quorum),
        "witness": passes(text, [witness], 1),
        "changed": passes("".join(lines).encode(), [witness], 1),
        "quorum": quorum,
    }
    print(json.dumps(found))
    return 0 if found["validators"] and found["witness"] and not found["changed"] else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Exception as e:  # A fault must not look like a refusal.
        print(f"{type(e).__name__}: {e}", file=sys.stderr)
        sys.exit(3)
