"""A crew with a listener of CrewAI's that is slow, as one is that sends what it hears."""

import offline
from crewai.events import BaseEventListener, CrewKickoffCompletedEvent

places: list[tuple[str, str]] = []


class Slow(BaseEventListener):
    """Waits until the other end of a FIFO lets it go on, then tells."""

    def setup_listeners(self, crewai_event_bus):
        @crewai_event_bus.on(CrewKickoffCompletedEvent)
        def completed(_source, _event):
            fifo, told = places[-1]
            with open(fifo, encoding="ascii") as file:
                file.read()
            with open(told, "w", encoding="ascii") as file:
                file.write("sent")


listener = Slow()


def make(fifo: str, told: str):
    places.append((fifo, told))
    return offline.make()
