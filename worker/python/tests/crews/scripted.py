"""A model that needs no network, with answers written before."""

import call_events
from crewai import Agent, Crew, Task
from crewai.llms.base_llm import BaseLLM
from pydantic import PrivateAttr

FINAL = "Thought: I now know the final answer\nFinal Answer: done"


class Scripted(BaseLLM):
    """Gives `script` one after the other, then FINAL; an exception among them is raised. Each call costs 15 tokens.

    `told`: how much of the usage the events say ("events"), the model's own counter says ("counter"), or both.
    """

    _script: list = PrivateAttr(default_factory=list)
    _told: tuple = PrivateAttr(default=("events", "counter"))

    @classmethod
    def of(cls, *script, model="scripted", told=("events", "counter")):
        made = cls(model=model)
        made._script, made._told = list(script), told
        return made

    @classmethod
    def calling(cls, tool_name, arguments):
        return cls.of(f"Thought: I use a tool\nAction: {tool_name}\nAction Input: {arguments}")

    def call(self, messages, tools=None, callbacks=None, available_functions=None, from_task=None, from_agent=None, response_model=None):
        with call_events.call_context():
            call_events.call_started(self, messages, from_task, from_agent)
            hooks = getattr(self, "_invoke_before_llm_call_hooks", None)
            if hooks is not None and not hooks(messages if isinstance(messages, list) else [], from_agent):
                raise ValueError("blocked by a hook")
            answer = self._script.pop(0) if self._script else FINAL
            if isinstance(answer, BaseException):
                raise answer
            if "counter" in self._told and call_events.EVENTS_HAVE_USAGE:
                self._track_token_usage_internal(call_events.USAGE)
            call_events.call_completed(self, answer, from_task, from_agent, callbacks, call_events.USAGE if "events" in self._told else None)
        return answer


def saying(inputs: dict) -> Crew:
    """Two tasks; the last has an output of as many characters as the input TEXT says."""
    agent = Agent(role="writer", goal="write", backstory="-", llm=Scripted.of(FINAL, f"Final Answer: {'x' * int(inputs['TEXT'])}"))
    tasks = [Task(description=f"task {number}", expected_output="a text", agent=agent) for number in (1, 2)]
    return Crew(agents=[agent], tasks=tasks)
