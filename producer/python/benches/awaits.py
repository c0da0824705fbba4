"""Thousands of awaits in one process: with the package, and with aio-pika by hand. Prints a line of JSON for each run.

    PYTHONPATH=src:tests python benches/awaits.py [--awaits 5000] [--pairs 3] [--restart]

Each run is a process of its own: `seconds` is from the first request to the last reply, `rss_mib` its peak resident memory above
that of the imports. By hand means: one connection, confirms, one reply queue of its own, a future for each id, and nothing that
outlives a lost connection. `--restart` restarts the broker while the package awaits, and counts what was answered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import time
import uuid
from threading import Thread

INPUTS = {"seconds": 1}


def resident_mib() -> float:
    """The peak so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def with_package(url: str, namespace: str, awaits: int) -> int:
    """How many succeeded."""
    from crewfleet import Fleet

    async with Fleet(url, namespace=namespace) as fleet:
        crew = fleet.crew("sleep")
        results = await asyncio.gather(*(crew.kickoff_async(inputs=INPUTS) for _ in range(awaits)))
    return sum(bool(result.raw) for result in results)


async def by_hand(url: str, namespace: str, awaits: int) -> int:
    """How many succeeded."""
    import aio_pika

    connection = await aio_pika.connect(url)
    publishing, consuming = await connection.channel(), await connection.channel()
    requests = await publishing.get_exchange(f"{namespace}.requests", ensure=False)
    me = uuid.uuid4().hex
    queue = await consuming.declare_queue(f"{namespace}.clients.{me}", durable=True, arguments={"x-queue-type": "quorum", "x-expires": 3_600_000})
    await queue.bind(f"{namespace}.replies", f"client.{me}")
    waiting: dict[str, asyncio.Future[str]] = {}

    async def reply(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        async with message.process():
            said = json.loads(message.body)
            if not (future := waiting[said["kickoff_id"]]).done():
                future.set_result(said["status"])

    await consuming.set_qos(1000)
    await queue.consume(reply)
    body = json.dumps({"inputs": INPUTS}).encode()

    async def kickoff() -> str:
        kickoff_id = str(uuid.uuid4())
        waiting[kickoff_id] = asyncio.get_running_loop().create_future()
        message = aio_pika.Message(body, correlation_id=kickoff_id, reply_to=f"client.{me}", delivery_mode=2)
        await requests.publish(message, "sleep", mandatory=True)
        return await waiting[kickoff_id]

    statuses = await asyncio.gather(*(kickoff() for _ in range(awaits)))
    await queue.delete(if_unused=False, if_empty=False)
    await connection.close()
    return statuses.count("succeeded")


def measure(way: str, url: str, namespace: str, awaits: int) -> None:
    """One run, in this process."""
    asyncio.run({"package": with_package, "by_hand": by_hand}[way](url, namespace, 1))
    before, started = resident_mib(), time.monotonic()
    answered = asyncio.run({"package": with_package, "by_hand": by_hand}[way](url, namespace, awaits))
    told = {"way": way, "awaits": awaits, "answered": answered, "seconds": round(time.monotonic() - started, 2), "rss_mib": round(resident_mib() - before, 1)}
    print(json.dumps(told), flush=True)
    if answered != awaits:
        sys.exit(f"{awaits - answered} awaits were not answered")


def main() -> None:
    """A node, a worker, and the runs one after the other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--awaits", type=int, default=5000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--restart", action="store_true")
    parser.add_argument("--run", nargs=3, metavar=("WAY", "URL", "NAMESPACE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        measure(*arguments.run, arguments.awaits)
        return
    from conftest import Node, Worker

    node, namespace = Node(), f"bench-{uuid.uuid4().hex[:8]}"
    worker = Worker(node.url, namespace)

    def run(way: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, __file__, "--awaits", str(arguments.awaits), "--run", way, node.url, namespace])

    try:
        if arguments.restart:
            running = run("package")
            restarting = Thread(target=lambda: (time.sleep(4), node.restart()))
            restarting.start()
            failed = running.wait()
            restarting.join()
            sys.exit(failed)
        for _ in range(arguments.pairs):
            for way in ("package", "by_hand"):
                run(way).wait()
    finally:
        worker.close()
        node.close()


if __name__ == "__main__":
    main()
