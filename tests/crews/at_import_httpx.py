"""A crew whose module opens its connection while it is imported."""

from connections import Asker, opened

ASK = opened("httpx")


def make():
    return Asker(lambda: ASK)
