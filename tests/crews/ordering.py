"""A flow with a model of its state: it tells what a kickoff may send."""

import os
from typing import Literal

from crewai.flow.flow import Flow, start
from pydantic import BaseModel, Field


class Order(BaseModel):
    """What is ordered."""

    product: str = Field("", description="Its name")
    amount: int = Field(1, ge=1)
    size: Literal["small", "large"] = "small"
    key: str = os.environ.get("ORDER_KEY", "")


class OrderFlow(Flow[Order]):
    @start()
    def begin(self):
        return f"{self.state.amount} {self.state.size} {self.state.product}"
