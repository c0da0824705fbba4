"""What was asked for and what was answered, as JSON lines."""

import json
from collections import Counter
from typing import Any, TextIO


class Journal:
    """Keeps one entry for each request to the models, in memory and, line by line, in a file.

    An entry: `n` (from 1), `endpoint` (chat, responses, embeddings, models), `model`, `digest`, `stream`, `tools` (names
    offered), `status`, `fault`, `why` (which rule or form made the answer), `calls` (tools called), `usage`
    (prompt and completion tokens), `said` (the conversation's text), `answered` (the text of the answer)."""

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = file
        self._entries: list[dict[str, Any]] = []

    def write(self, entry: dict[str, Any]) -> None:
        """Adds an entry before the client is answered, so that who has an answer finds it here."""
        entry = {"n": len(self._entries) + 1, **entry}
        self._entries.append(entry)
        if self._file is not None:
            self._file.write(json.dumps(entry, ensure_ascii=False) + "\n")
            self._file.flush()

    def entries(self) -> list[dict[str, Any]]:
        """All entries, in the order in which they were asked for."""
        return list(self._entries)

    def counts(self) -> dict[str, int]:
        """How many requests each endpoint had."""
        return dict(Counter(entry["endpoint"] for entry in self._entries))

    def clear(self) -> None:
        """Forgets the entries in memory."""
        self._entries = []
