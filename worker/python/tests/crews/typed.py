"""Targets that tell what a kickoff may send: flows with a model of their state, factories with types."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from crewai.flow.flow import Flow, FlowState, start
from pydantic import BaseModel, Field, SecretStr

import offline

if TYPE_CHECKING:
    from nowhere import Nothing


class Shelf(BaseModel):
    number: int = 1
    above: "Shelf | None" = None


class Order(BaseModel):
    """What is ordered."""

    product: str = Field("", description="Its name", min_length=1)
    size: Literal["small", "large"] = "small"
    shelves: list[Shelf] = []
    key: str = os.environ.get("TYPED_KEY", "")
    place: str = f"https://shop.example/?key={os.environ.get('TYPED_KEY', '')}"
    password: SecretStr = SecretStr("hidden")
    limit: float = float("inf")
    called: Callable[[], None] | None = None


class OrderFlow(Flow[Order]):
    @start()
    def begin(self):
        return self.state.product


class Numbered(BaseModel):
    id: str = "own"
    product: str = ""


class NumberedFlow(Flow[Numbered]):
    @start()
    def begin(self):
        return self.state.id


class Derived(FlowState):
    product: str = ""
    next: "Derived | None" = None


class DerivedFlow(Flow[Derived]):
    @start()
    def begin(self):
        return self.state.product


class Strict(BaseModel):
    product: str
    count: int = 1


class GivenFlow(Flow[Strict]):
    initial_state = Strict(product="lamps")

    @start()
    def begin(self):
        return self.state.product


class Large(BaseModel):
    product: str = Field("", description="x" * 65_536)


class LargeFlow(Flow[Large]):
    @start()
    def begin(self):
        return self.state.product


class Broken(BaseModel):
    product: str = ""

    @classmethod
    def __get_pydantic_json_schema__(cls, schema, handler):
        raise RuntimeError("no schema today")


class BrokenFlow(Flow[Broken]):
    @start()
    def begin(self):
        return self.state.product


class DictFlow(Flow):
    @start()
    def begin(self):
        return self.state.get("product")


def of_flow(tone: Literal["dry", "warm"], shelf: Shelf | None = None):
    return GivenFlow()


def optional_of_flow(tone: Annotated[str, Field(description="How it sounds")] = "dry", copy: Any = None):
    return GivenFlow()


def of_crew(A: int = 3):
    return offline.make()


def untyped(tone, shelf=None):
    return offline.make()


def unknown(tone: "Nothing" = None, *, model_config: int = 1):
    return offline.make()
