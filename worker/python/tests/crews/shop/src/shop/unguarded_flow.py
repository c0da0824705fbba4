import threading

from shop.agency.desk import DeskFlow

thread = threading.Thread(target=lambda: DeskFlow().kickoff(inputs={"goods": "pears"}))
thread.start()
thread.join()
