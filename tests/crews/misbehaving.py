"""A real CrewAI crew whose model does, in its call, whatever the inputs ask for: see deeds.py, which has the inputs, too."""

import json
import re

from crewai import Agent, BaseLLM, Crew, Task
from deeds import run


class MisbehavingModel(BaseLLM):
    """Finds the deed in the prompt, where CrewAI has put the inputs."""

    def call(self, messages, *args, **kwargs) -> str:
        prompt = messages if isinstance(messages, str) else "\n".join(str(message["content"]) for message in messages)
        order = json.loads(re.findall(r"ORDER(\{.*?\})ORDER", prompt)[-1])
        return f"Final Answer: {run(order['do'], order['with'], order['mark'], order['journal'])}"


def misbehaving() -> Crew:
    """The crew: one agent, one task."""
    agent = Agent(role="Culprit", goal="misbehave", backstory="it was asked to", llm=MisbehavingModel(model="misbehaving"), max_retry_limit=0)
    description = 'ORDER{{"do": "{DO}", "with": "{WITH}", "journal": "{JOURNAL}", "mark": "{MARK}"}}ORDER'
    task = Task(name="misbehave", description=description.replace("{{", "{").replace("}}", "}"), expected_output="anything", agent=agent)
    return Crew(agents=[agent], tasks=[task])
