"""Two of them: a module alone is not enough."""

from shop.factories import _crew


class FirstCrew:
    def crew(self):
        return _crew("first")


class SecondCrew:
    def crew(self):
        return _crew("second")
