"""A crew without CrewAI whose kickoffs leave things behind: files, processes, and now and then a dead process of their own or of
their host. The input "act" says which."""

import os
import signal
import subprocess


class Leaving:
    """Anything with a kickoff method is a crew."""

    def kickoff(self, inputs: dict) -> str:
        os.makedirs("output", exist_ok=True)
        with open("data.txt", encoding="utf-8") as data, open("output/report.md", "w", encoding="utf-8") as report:
            report.write(data.read())
        os.remove("data.txt")
        act = inputs["act"]
        if act == "leave a process":
            subprocess.Popen(["sleep", "1000"], start_new_session=True)
        if act == "kill itself":
            os.kill(os.getpid(), signal.SIGKILL)
        if act == "kill the host" and _is_first(inputs["once"]):
            os.kill(os.getppid(), signal.SIGKILL)
            signal.pause()
        return act


def _is_first(mark: str) -> bool:
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True
