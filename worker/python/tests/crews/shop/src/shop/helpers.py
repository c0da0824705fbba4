from shop.crew import ShopCrew


def go(inputs):
    return ShopCrew().crew().kickoff(inputs=inputs)
