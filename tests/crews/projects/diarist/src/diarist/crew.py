"""A crew that remembers, made while its module is imported."""

from crewai import Agent, Crew, Task

writer = Agent(role="Diarist", goal="write a diary", backstory="You remember all days.", llm="openai/gpt-4o")
entry = Task(description="Write what happened: {event}.", expected_output="A diary entry.", agent=writer)
diary = Crew(agents=[writer], tasks=[entry], memory=True)
