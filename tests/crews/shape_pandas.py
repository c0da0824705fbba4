"""A crew whose module imports pandas, and with it pyarrow and jemalloc's background thread."""

import pandas
from shapes import crew

TABLE = pandas.DataFrame({"topic": ["lamps"], "price": [1.0]})


def make():
    return crew()
