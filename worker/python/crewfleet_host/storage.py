"""CrewAI's own storage where it belongs: opened by the kickoff that uses it, in that kickoff's folder, never at import.

A crew with `memory=True`, every Flow and every `@persist` name their storage when they are made. A crew that a module makes while it
is imported would so bind all kickoffs to one folder; and one that is made in the host would open a database there, which no fork may
share. CrewAI lets an application supply both kinds of storage; what is supplied here opens CrewAI's own at first use.
"""

import os
import sys
import warnings
from typing import Any

from . import crewai_setup, optional

# What CrewAI 1.15.30 imports when a memory is first used: 1.4 s of CPU, most of it LanceDB and pandas' relatives.
MEMORY_MODULES = (
    "crewai.memory.storage.lancedb_storage",
    "crewai.memory.encoding_flow",
    "crewai.memory.recall_flow",
)
_RAG_CONFIGS = (("crewai.rag.chromadb.config", ""), ("crewai.rag.qdrant.config", "qdrant"))


def defer() -> None:
    """Before the target is imported: makes CrewAI ask here for memories' and flows' storage. A factory of the crew's own replaces it."""
    memory = optional.module("crewai.memory.storage.factory")
    if hasattr(memory, "set_memory_storage_factory"):
        memory.set_memory_storage_factory(_MemoryStorage)
    flows = optional.module("crewai.flow.persistence.factory")
    if hasattr(flows, "set_flow_persistence_factory"):
        flows.set_flow_persistence_factory(_flow_persistence)
    # The host forks before LanceDB does anything, and its locks are free then.
    warnings.filterwarnings("ignore", message="lancedb fork support is experimental", category=RuntimeWarning)


def enter() -> None:
    """Once CREWAI_STORAGE_DIR names the kickoff's storage: knowledge, whose place CrewAI notes when it is imported, goes there too."""
    for name, folder in _RAG_CONFIGS:
        config: Any = sys.modules.get(name)
        if hasattr(config, "DEFAULT_STORAGE_PATH"):
            config.DEFAULT_STORAGE_PATH = os.path.join(_default_place(), folder) if folder else _default_place()


def memories_made() -> int:
    """How many memories were made in this process so far: one that a module makes is there to be used."""
    return _MemoryStorage.made


def uses_memory(crew: Any) -> bool:
    """Whether a kickoff of `crew` will open a memory: of the crew, of an agent, or of a Flow whose methods name it."""
    if crewai_setup.is_flow(crew):
        return any(_names_memory(method) for cls in type(crew).__mro__ if cls.__module__.partition(".")[0] != "crewai" for method in vars(cls).values())
    holders = (crew, *(getattr(crew, "agents", None) or ()))
    return any(getattr(holder, name, None) not in (None, False) for holder in holders for name in ("memory", "_memory"))


def _names_memory(method: Any) -> bool:
    function = getattr(method, "_meth", method)  # as CrewAI wraps a flow's methods
    code = getattr(getattr(function, "__wrapped__", function), "__code__", None)
    return code is not None and not {"remember", "recall", "memory", "extract_memories", "Memory"}.isdisjoint(code.co_names)


def _default_place() -> str:
    paths = optional.module("crewai_core.paths") or optional.module("crewai.utilities.paths")
    return str(paths.db_storage_path())


class _MemoryStorage:
    """A StorageBackend that opens CrewAI's own for `spec` when it is first used in a process, for that kickoff's folder."""

    made = 0

    def __init__(self, spec: str) -> None:
        """`spec` is "lancedb", "qdrant-edge" or a path."""
        _MemoryStorage.made += 1
        self._spec = spec
        self._opened: Any = None
        self._opened_for: tuple[Any, ...] | None = None

    def _storage(self) -> Any:
        here = (os.getpid(), os.environ.get("CREWAI_STORAGE_DIR"), os.getcwd())
        if self._opened is None or self._opened_for != here:
            self._opened, self._opened_for = _open_memory(self._spec), here
        return self._opened

    # What CrewAI's protocol asks for; Python 3.12 looks for it in the class.
    def save(self, *given: Any, **named: Any) -> Any:
        return self._storage().save(*given, **named)

    def search(self, *given: Any, **named: Any) -> Any:
        return self._storage().search(*given, **named)

    def delete(self, *given: Any, **named: Any) -> Any:
        return self._storage().delete(*given, **named)

    def update(self, *given: Any, **named: Any) -> Any:
        return self._storage().update(*given, **named)

    def get_record(self, *given: Any, **named: Any) -> Any:
        return self._storage().get_record(*given, **named)

    def list_records(self, *given: Any, **named: Any) -> Any:
        return self._storage().list_records(*given, **named)

    def get_scope_info(self, *given: Any, **named: Any) -> Any:
        return self._storage().get_scope_info(*given, **named)

    def list_scopes(self, *given: Any, **named: Any) -> Any:
        return self._storage().list_scopes(*given, **named)

    def list_categories(self, *given: Any, **named: Any) -> Any:
        return self._storage().list_categories(*given, **named)

    def count(self, *given: Any, **named: Any) -> Any:
        return self._storage().count(*given, **named)

    def reset(self, *given: Any, **named: Any) -> Any:
        return self._storage().reset(*given, **named)

    async def asave(self, *given: Any, **named: Any) -> Any:
        return await self._storage().asave(*given, **named)

    async def asearch(self, *given: Any, **named: Any) -> Any:
        return await self._storage().asearch(*given, **named)

    async def adelete(self, *given: Any, **named: Any) -> Any:
        return await self._storage().adelete(*given, **named)

    def close(self) -> None:
        """Closes what is open; a memory that was never used has nothing to close."""
        opened, self._opened = self._opened, None
        if hasattr(opened, "close"):
            opened.close()

    def __getattr__(self, name: str) -> Any:
        # The backends' own, beyond the protocol. Never for what Python itself looks for: that would open a database.
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._storage(), name)

    def __deepcopy__(self, _memo: dict[int, Any]) -> "_MemoryStorage":
        return self  # as a backend, which cannot be copied, would be shared


def _open_memory(spec: str) -> Any:
    """As crewai.memory.unified_memory does where no factory is set."""
    if spec == "qdrant-edge":
        from crewai.memory.storage.qdrant_edge_storage import QdrantEdgeStorage

        return QdrantEdgeStorage()
    from crewai.memory.storage.lancedb_storage import LanceDBStorage

    return LanceDBStorage() if spec == "lancedb" else LanceDBStorage(path=spec)


def _flow_persistence() -> Any:
    global _persistence_class
    if _persistence_class is None:
        _persistence_class = _make_persistence_class()
    return _persistence_class()


_persistence_class: Any = None


def _make_persistence_class() -> Any:
    from crewai.flow.persistence.sqlite import SQLiteFlowPersistence
    from pydantic import model_validator

    class KickoffFlowPersistence(SQLiteFlowPersistence):
        """CrewAI's own, in the folder that is the storage when it is used."""

        db_path: str = ""

        @model_validator(mode="after")
        def _setup(self) -> Any:
            self._lock_name = ""
            return self

        def _here(self) -> None:
            place = os.path.join(_default_place(), "flow_states.db")
            if place != self.db_path:
                self.db_path = place
                self._lock_name = f"sqlite:{os.path.realpath(place)}"
                self.init_db()

        def save_state(self, *given: Any, **named: Any) -> Any:
            self._here()
            return super().save_state(*given, **named)

        def load_state(self, *given: Any, **named: Any) -> Any:
            self._here()
            return super().load_state(*given, **named)

        def save_pending_feedback(self, *given: Any, **named: Any) -> Any:
            self._here()
            return super().save_pending_feedback(*given, **named)

        def load_pending_feedback(self, *given: Any, **named: Any) -> Any:
            self._here()
            return super().load_pending_feedback(*given, **named)

        def clear_pending_feedback(self, *given: Any, **named: Any) -> Any:
            self._here()
            return super().clear_pending_feedback(*given, **named)

    return KickoffFlowPersistence
