"""CrewAI crews with a model that needs no network and says back what it was asked."""

import os

from call_events import call_completed, call_context, call_started
from crewai import Agent, Crew, Task
from crewai.flow.flow import Flow, listen, start
from crewai.llms.base_llm import BaseLLM
from crewai.project import CrewBase, agent, crew, task


class Parrot(BaseLLM):
    """Answers with the last message; a prompt that names a FIFO is answered once something is read from it, the first time."""

    def call(self, messages, tools=None, callbacks=None, available_functions=None, from_task=None, from_agent=None, response_model=None):
        text = messages if isinstance(messages, str) else str(messages[-1]["content"])
        with call_context():
            call_started(self, messages, from_task, from_agent)
            if "FIFO=" in text:
                place = text.split("FIFO=", 1)[1].split()[0]
                if os.path.exists(place):
                    with open(place, encoding="ascii") as file:
                        file.read()
                    os.unlink(place)
            answer = "Thought: I now know the final answer\nFinal Answer: " + text[:2000]
            call_completed(self, answer, from_task, from_agent, callbacks)
        return answer


def _agent(role: str, model: BaseLLM) -> Agent:
    return Agent(role=role, goal="say it back", backstory="a parrot", llm=model)


class ParrotAgent(Agent):
    """For agents/parrot.json, which can name no model that is offline."""

    def __init__(self, **fields):
        super().__init__(**{**fields, "llm": Parrot(model="parrot-3")})


def make() -> Crew:
    """Two agents that share a model, two tasks that need {A} and {B}; a JSON example in braces is no input."""
    model = Parrot(model="parrot-1")
    first, second = _agent("first", model), _agent("second", model)
    tasks = [
        Task(name="one", description='say {A} as {"key": 1}', expected_output="{A}", agent=first),
        Task(name="two", description="say {B}", expected_output="{B}", agent=second),
    ]
    return Crew(agents=[first, second], tasks=tasks, verbose=True)


instance = make()


def make_kept() -> Crew:
    """A function that hands out the same crew again and again."""
    return instance


def make_human() -> Crew:
    crew = make()
    crew.tasks[0].human_input = True
    return crew


def make_completed() -> Crew:
    """Its callback gives the input B."""
    crew = make()
    crew.before_kickoff_callbacks = [lambda inputs: {**inputs, "B": "from-callback"}]
    return crew


def make_streaming() -> Crew:
    crew = make()
    crew.stream = True
    return crew


def fails_to_build() -> Crew:
    raise LookupError("no model configured")


@CrewBase
class DecoratedCrew:
    """The usual form of a project's crew."""

    @agent
    def parrot(self) -> Agent:
        return _agent("parrot", Parrot(model="parrot-2"))

    @task
    def only(self) -> Task:
        return Task(description="say {A}", expected_output="{A}", agent=self.parrot())

    @crew
    def crew(self) -> Crew:
        return Crew(agents=self.agents, tasks=self.tasks)


class TwoStepFlow(Flow):
    """A flow that kicks off a crew."""

    @start()
    def begin(self):
        return make().kickoff(inputs={"A": self.state["A"], "B": "flow"}).raw

    @listen(begin)
    def end(self, text):
        return {"text": text, "pid": os.getpid()}
