from crewai.flow.flow import Flow, start


class DeskFlow(Flow):
    @start()
    def greet(self):
        return f"welcome {self.state['goods']}"
