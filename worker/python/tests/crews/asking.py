"""Crews and flows that ask a person, in each way that CrewAI has."""

import contextlib

from crewai.flow import human_feedback
from crewai.flow.async_feedback import HumanFeedbackPending, HumanFeedbackProvider
from crewai.flow.flow import Flow, listen, start
from crewai.hooks.dispatch import InterceptionPoint, scoped_hooks
from crewai.tasks.conditional_task import ConditionalTask
from crewai.tools import tool

import offline
from scripted import Scripted


class AskingFlow(Flow):
    @start()
    def begin(self):
        return self.ask("Which topic?")

    @listen(begin)
    def end(self, topic):
        return f"about {topic}"


class AskingWithTimeLimitFlow(Flow):
    @start()
    def begin(self):
        return f"about {self.ask('Which topic?', timeout=30)}"


class FeedbackFlow(Flow):
    @start()
    @human_feedback(message="Is it good?")
    def review(self):
        return "a draft"


class Pager(HumanFeedbackProvider):
    """Asks elsewhere, and lets the flow pause."""

    def request_feedback(self, context, flow):
        raise HumanFeedbackPending(context=context)


class PausingFlow(Flow):
    @start()
    @human_feedback(message="Is it good?", provider=Pager())
    def review(self):
        return "a draft"


def streaming_pausing_flow():
    return PausingFlow(stream=True)


def streaming_asking_flow():
    return AskingFlow(stream=True)


@tool("approval")
def approval(question: str) -> str:
    """Asks somebody."""
    return input(question)


@tool("polite approval")
def polite(question: str) -> str:
    """Asks somebody, who may not be there."""
    try:
        return input(question)
    except EOFError:
        return "nobody is there"


@tool("quiet approval")
def quiet(question: str) -> str:
    """Asks somebody, who may not be there."""
    with contextlib.suppress(EOFError):
        return input(question)
    return "nobody is there"


def _with_tool(tool_) -> object:
    crew = offline.make()
    model = Scripted.calling(tool_.name, '{"question": "May I?"}')
    for agent in crew.agents:
        agent.llm, agent.tools = model, [tool_]
    return crew


def tool_crew():
    return _with_tool(approval)


def polite_crew():
    return _with_tool(polite)


def quiet_crew():
    return _with_tool(quiet)


def conditional_crew():
    """The task that would ask is skipped."""
    crew = offline.make()
    asking = ConditionalTask(
        name="ask", description="ask", expected_output="an answer", agent=crew.agents[0], human_input=True, condition=lambda _: False
    )
    crew.tasks.append(asking)
    return crew


def conditional_crew_that_asks():
    crew = conditional_crew()
    crew.tasks[-1].condition = lambda _: True
    return crew


class ApprovalHook(Flow):
    """A hook that asks before each model call; CrewAI swallows what hooks raise."""

    @start()
    def begin(self):
        def approve(context):
            context.request_human_input("Send it?")

        with scoped_hooks({InterceptionPoint.PRE_MODEL_CALL: [approve]}):
            return offline.make().kickoff(inputs={"A": "a", "B": "b"}).raw


class Plain:
    """No CrewAI at all."""

    def kickoff(self, inputs):
        return input("Which topic? ")
