"""A target that takes its process along."""

import os
import signal

os.kill(os.getpid(), signal.SIGSEGV)
