"""A factory whose parameters stand in the crew's texts."""

from crewai import Agent, Crew, Task


def build_crew(question: str, customer: str = "a customer") -> Crew:
    clerk = Agent(role="Clerk", goal=f"serve {customer}", backstory="friendly", llm="openai/gpt-4o")
    answer = Task(description=f"Answer {customer}: {question}?", expected_output="an answer", agent=clerk, output_file=f"{customer}.txt")
    return Crew(agents=[clerk], tasks=[answer])
