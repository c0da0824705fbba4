from offline import Parrot
from shop.factories import _crew


def build():
    goods = Parrot(model="parrot").call("what do we sell?")
    return _crew(goods)
