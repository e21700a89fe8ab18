"""Runs SeaweedFS for as long as the process that started it lives.

The suite holds the other end of standard input. However the suite ends, kill -9 included, that end is closed, and
SeaweedFS must not outlive it.
"""

import os
import subprocess
import sys
import threading

weed = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)


def end_with_the_suite() -> None:
    while os.read(0, 1024):
        pass
    weed.kill()


threading.Thread(target=end_with_the_suite, daemon=True).start()
sys.exit(weed.wait())
