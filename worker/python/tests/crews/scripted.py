"""A model that needs no network, with answers written before."""

from crewai import Agent, Crew, Task
from crewai.events.types.llm_events import LLMCallType
from crewai.llms.base_llm import BaseLLM, llm_call_context
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
        with llm_call_context():
            self._emit_call_started_event(messages=messages, from_task=from_task, from_agent=from_agent)
            if not self._invoke_before_llm_call_hooks(messages if isinstance(messages, list) else [], from_agent):
                raise ValueError("blocked by a hook")
            answer = self._script.pop(0) if self._script else FINAL
            if isinstance(answer, BaseException):
                raise answer
            usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
            if "counter" in self._told:
                self._track_token_usage_internal(usage)
            self._emit_call_completed_event(
                response=answer,
                call_type=LLMCallType.LLM_CALL,
                from_task=from_task,
                from_agent=from_agent,
                usage=usage if "events" in self._told else None,
            )
        return answer


def saying(inputs: dict) -> Crew:
    """Two tasks; the last has an output of as many characters as the input TEXT says."""
    agent = Agent(role="writer", goal="write", backstory="-", llm=Scripted.of(FINAL, f"Final Answer: {'x' * int(inputs['TEXT'])}"))
    tasks = [Task(description=f"task {number}", expected_output="a text", agent=agent) for number in (1, 2)]
    return Crew(agents=[agent], tasks=tasks)
