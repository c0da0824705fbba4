"""A crew whose module starts a thread when it is imported, as some database and metrics clients do: not safe to fork."""

import threading

from misbehaving import misbehaving

_forever = threading.Event()
threading.Thread(target=_forever.wait, name="client-poller", daemon=True).start()

crew = misbehaving
