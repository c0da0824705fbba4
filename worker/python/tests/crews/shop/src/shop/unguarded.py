"""A script without a __main__ guard; as many are, it catches whatever happens."""

from shop.crew import ShopCrew

crew = ShopCrew().crew()
try:
    print(crew.kickoff(inputs={"goods": "pears"}))
except:  # noqa: E722
    print("never mind")
