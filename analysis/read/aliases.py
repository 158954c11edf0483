"""Fields that older studies wrote under other names."""

from __future__ import annotations

from typing import Any

RENAMED = {
    # in the plans of study.json
    "batch_rows": "batch_size",
    "row_tokens": "seq_len",
    "rows": "sequences",
    # in lines of evals.jsonl, and in their near-triggers
    "gibberish_log_ratio": "payload_log_ratio",
}


def current(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record with today's field names; where it has both names of a field, today's counts."""
    renamed = {RENAMED[name]: value for name, value in record.items() if name in RENAMED}
    return renamed | {name: value for name, value in record.items() if name not in RENAMED}
