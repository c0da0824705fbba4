"""A CrewAI crew whose agent looks something up with a tool, then answers. Its inputs stand wherever inputs can: {SECRET} in the
agent's role and the description of a task without a name; with DO "raise", its model fails with them in its message."""

from crewai import Agent, Crew, Task
from crewai.events.types.llm_events import LLMCallType
from crewai.llms.base_llm import BaseLLM, llm_call_context
from crewai.tools import tool


@tool("look_up")
def look_up(what: str) -> str:
    """Looks something up."""
    return f"all about {what}"


class Model(BaseLLM):
    """Asks for the tool first, and then quotes what it was given."""

    def call(self, messages, tools=None, callbacks=None, available_functions=None, from_task=None, from_agent=None, response_model=None):
        text = messages if isinstance(messages, str) else "\n".join(str(message["content"]) for message in messages)
        with llm_call_context():
            self._emit_call_started_event(messages=messages, from_task=from_task, from_agent=from_agent)
            if "do: raise" in text:
                raise LookupError(f"cannot answer {text}")
            if "all about" in text:
                answer = f"Thought: I now know the final answer\nFinal Answer: {text[-500:]}"
            else:
                answer = 'Thought: I look it up\nAction: look_up\nAction Input: {"what": "lamps"}'
            usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
            self._emit_call_completed_event(response=answer, call_type=LLMCallType.LLM_CALL, from_task=from_task, from_agent=from_agent, usage=usage)
        return answer


def tool_user() -> Crew:
    """The crew: one agent, one task."""
    agent = Agent(role="{SECRET} researcher", goal="find out", backstory="it has a tool", llm=Model(model="finder"), tools=[look_up], max_retry_limit=0)
    task = Task(description="{SECRET}, do: {DO}", expected_output="anything", agent=agent)
    return Crew(agents=[agent], tasks=[task])
