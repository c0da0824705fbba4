"""A crew whose module opens its connection while it is imported."""

from connections import Asker, opened

ASK = opened("http_client")


def make():
    return Asker(lambda: ASK)
