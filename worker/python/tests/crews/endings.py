"""Crews that leave work for the end of their process, as exporters of traces do. The input "to" is a file that tells what was done."""

import atexit
import queue
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace


def make() -> "Endings":
    return Endings()


def tell(place: str, what: str) -> None:
    with open(place, "a", encoding="utf-8") as file:
        file.write(what + "\n")


class Endings:
    """`kickoff` does what the input "do" names."""

    def kickoff(self, inputs: dict) -> str:
        getattr(self, inputs["do"])(inputs["to"], inputs.get("fifo"))
        return "answered"

    def exporter(self, place: str, _: object) -> None:
        """A batch in a daemon thread, sent at exit."""
        batch: queue.SimpleQueue = queue.SimpleQueue()
        sent = threading.Event()

        def send() -> None:
            tell(place, batch.get())
            sent.set()

        threading.Thread(target=send, daemon=True).start()

        def flush() -> None:
            batch.put("exported")
            sent.wait()

        atexit.register(flush)

    def upload(self, place: str, fifo: str) -> None:
        """A thread that is no daemon, and waits."""

        def work() -> None:
            with open(fifo, encoding="utf-8") as file:
                file.read()
            tell(place, "uploaded")

        threading.Thread(target=work, name="upload").start()

    def pool(self, place: str, _: object) -> None:
        """Work in an executor that nobody shuts down."""
        ThreadPoolExecutor().submit(tell, place, "worked")

    def order(self, place: str, _: object) -> None:
        """Threads come before exit handlers, and the last handler first."""
        atexit.register(tell, place, "handler 1")
        atexit.register(tell, place, "handler 2")
        threading.Thread(target=tell, args=(place, "thread")).start()

    def raising(self, place: str, _: object) -> None:
        """One handler fails, the other runs."""
        atexit.register(tell, place, "after")
        atexit.register(lambda: 1 / 0)

    def hang_in_thread(self, place: str, _: object) -> None:
        tell(place, "started")
        threading.Thread(target=threading.Event().wait, name="stuck").start()

    def hang_in_handler(self, place: str, _: object) -> None:
        tell(place, "started")
        atexit.register(threading.Event().wait)

    def slow_traces(self, place: str, _: object) -> None:
        """A provider that takes all the time that it is given, and another after it."""
        _provide(place, lambda given_ms: threading.Event().wait(given_ms / 1000))

    def deaf_traces(self, place: str, _: object) -> None:
        """A provider that does not care how long it may take."""
        _provide(place, lambda _given_ms: threading.Event().wait())

    def quick_traces(self, place: str, _: object) -> None:
        _provide(place, lambda _given_ms: None)

    def fail(self, place: str, _: object) -> None:
        atexit.register(tell, place, "after the failure")
        raise ValueError("failed")


def _provide(place: str, flush_traces) -> None:
    """OpenTelemetry as far as its providers are asked to send what they hold."""

    def told(what: str, flush):
        return lambda given_ms: (tell(place, f"{what} {0 < given_ms <= 10_000}"), flush(given_ms))

    for name, get, flush in (("trace", "get_tracer_provider", flush_traces), ("metrics", "get_meter_provider", lambda _given_ms: None)):
        provider = SimpleNamespace(force_flush=told(name, flush))
        sys.modules[f"opentelemetry.{name}"] = SimpleNamespace(**{get: lambda provider=provider: provider})  # type: ignore[assignment]
