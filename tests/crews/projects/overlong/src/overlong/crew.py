"""A crew that doesn't let CrewAI shorten what is longer than its model takes."""

from crewai import Agent, Crew, Task


def build() -> Crew:
    reader = Agent(role="Reader", goal="read", backstory="patient", llm="openai/gpt-4o", respect_context_window=False, max_retry_limit=0)
    return Crew(agents=[reader], tasks=[Task(description="Read it all.", expected_output="a summary", agent=reader)])
