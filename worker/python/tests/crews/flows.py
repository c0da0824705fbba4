"""Flows that return nothing, run crews in threads, or hand out whole outputs."""

import threading
from concurrent.futures import ThreadPoolExecutor

from crewai.flow.flow import Flow, FlowState, start
from crewai.flow.persistence import persist
from pydantic import BaseModel

import offline
from scripted import Scripted


class Post(BaseModel):
    title: str = ""
    score: float = 0.0


class Own(BaseModel):
    id: str = "own"
    title: str = ""


class Derived(FlowState):
    title: str = ""


class PydanticFlow(Flow[Post]):
    @start()
    def begin(self):
        self.state.title, self.state.score = "a post", float("nan")


class OwnIdFlow(Flow[Own]):
    @start()
    def begin(self):
        self.state.title = "a post"


class DerivedFlow(Flow[Derived]):
    @start()
    def begin(self):
        self.state.title = "a post"


class DictFlow(Flow):
    @start()
    def begin(self):
        self.state["title"] = "a post"


@persist()
class PersistedFlow(Flow):
    @start()
    def begin(self):
        self.state["title"] = "a post"


class StatelessFlow(Flow):
    @start()
    def begin(self):
        pass


class ThreadsFlow(Flow):
    """Two crews in a pool, one in a thread of its own, one as it is."""

    @start()
    def begin(self):
        def run(name):
            return offline.make().kickoff(inputs={"A": name, "B": name}).raw

        texts = []
        thread = threading.Thread(target=lambda: texts.append(run("in-a-thread")))
        thread.start()
        with ThreadPoolExecutor(2) as pool:
            texts += pool.map(run, ["pool-one", "pool-two"])
        thread.join()
        return [*texts, run("here")]


class WaitingThreadsFlow(Flow):
    """Its crew waits, in a thread, for a FIFO; a second model call would follow."""

    @start()
    def begin(self):
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(lambda: offline.make().kickoff(inputs=dict(self.state)).raw).result()


class ForEachFlow(Flow):
    @start()
    def begin(self):
        return offline.make().kickoff_for_each(inputs=[{"A": "secret-prompt", "B": "b"}])


def exits_on_overflow():
    """Its model's context is too small, and it is not to summarise."""
    from crewai.utilities.exceptions.context_window_exceeding_exception import LLMContextLengthExceededError

    crew = offline.make()
    for agent in crew.agents:
        agent.llm, agent.respect_context_window = Scripted.of(LLMContextLengthExceededError("131072 tokens at most")), False
    return crew
