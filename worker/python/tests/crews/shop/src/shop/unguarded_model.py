import os

from crewai.llms.base_llm import BaseLLM
from shop.crew import ShopCrew


class Late(BaseLLM):
    """A model whose class is made by the import itself."""

    def call(self, messages, *arguments, **named):
        with open(os.environ["SHOP_MARKS"], "a", encoding="ascii") as file:
            file.write("called\n")
        return "yes"


try:
    Late(model="late").call("is it open?")
except BaseException:
    print("never mind")


class AnyCrew(ShopCrew):
    pass
