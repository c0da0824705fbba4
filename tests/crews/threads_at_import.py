"""A crew whose module starts a thread when it is imported, as some database and metrics clients do: not safe to fork."""

import threading

from deeds import Plain

_forever = threading.Event()
threading.Thread(target=_forever.wait, name="client-poller", daemon=True).start()

crew = Plain
