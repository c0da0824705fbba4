"""A child in a fresh interpreter: for crews whose import starts threads, which a fork would lose."""

import contextlib
import gc
import json
import os
import sys

from . import environment, process
from .child import end_child, serve_kickoffs
from .frames import Channel
from .inspection import Unusable, import_target
from .settings import Settings, forget_workers_own_environment
from .workplace import enter_workplace


def run_spawned_child(arguments: str) -> int:
    """Imports the target, then serves kickoffs; `arguments` is what host.py wrote. Never returns normally."""
    given = json.loads(arguments)
    process.die_with_parent(given["parent"])
    process.become_subreaper()
    forget_workers_own_environment()
    environment.adopt(given["defaults"])
    channel = Channel(given["channel_fd"])
    settings = Settings.from_frame(given["settings"])
    gc.disable()
    try:
        workplace = enter_workplace(settings)
        target = import_target(settings)
        workplace.seal()
    except Unusable as unusable:
        with contextlib.suppress(ConnectionError):  # the worker went
            channel.send({"type": "failed", "error": unusable.error})
        end_child(1)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        end_child(1)  # the crew's threads may be there already, and a normal end would wait for them
    gc.enable()
    gc.collect()
    gc.freeze()
    serve_kickoffs(channel, target, settings, workplace)
    return os.EX_OK
