"""Reads a file of its project, and writes over another; both belong to root."""


class Shop:
    """A crew without CrewAI."""

    def kickoff(self, inputs: dict) -> dict[str, int]:
        with open("data/prices.csv", encoding="utf-8") as prices:
            (name, price), *_ = (line.split(",") for line in prices)
        with open("output/report.md", "w", encoding="utf-8") as report:
            report.write(f"{name} is sold\n")
        return {name: int(price)}
