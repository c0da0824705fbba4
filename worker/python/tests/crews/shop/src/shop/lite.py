from crewai.lite_agent import LiteAgent
from offline import Parrot

clerk = LiteAgent(role="clerk", goal="say it back", backstory="a parrot", llm=Parrot(model="parrot-lite"))
