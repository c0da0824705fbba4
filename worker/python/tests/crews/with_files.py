"""A crew and a flow whose model says which files it was given."""

from crewai import Agent, Crew, Task
from crewai.flow.flow import Flow, start
from crewai.llms.base_llm import BaseLLM


class Looker(BaseLLM):
    """A model that takes images."""

    def supports_multimodal(self) -> bool:
        return True

    def call(self, messages, tools=None, callbacks=None, available_functions=None, from_task=None, from_agent=None, response_model=None):
        files = {name: file for message in messages for name, file in (message.get("files") or {}).items()}
        seen = sorted(f"{name}={type(file).__name__}:{len(file.read())}" for name, file in files.items())
        return "Thought: I now know the final answer\nFinal Answer: " + (" ".join(seen) or "nothing")


def make() -> Crew:
    looker = Agent(role="looker", goal="look", backstory="looks", llm=Looker(model="looker-1"))
    return Crew(agents=[looker], tasks=[Task(name="look", description="describe it for {WHOM}", expected_output="words", agent=looker)])


class LookingFlow(Flow):
    @start()
    def look(self) -> str:
        return make().kickoff(inputs={"WHOM": self.state["WHOM"]}).raw
