"""Runs Synapse for as long as the process that started it lives.

The suite holds the other end of standard input. However the suite ends, kill -9 included, that end is closed, and
Synapse must not outlive it.
"""

import os
import signal
import sys
import threading


def end_with_the_suite() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


threading.Thread(target=end_with_the_suite, daemon=True).start()
sys.argv[0] = "synapse"

from synapse.app.homeserver import main  # noqa: E402

main()
