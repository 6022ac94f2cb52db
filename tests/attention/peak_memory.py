"""Peak memory of a piece of work, for the probes beside it, which run as scripts."""

import os
import resource
import sys
from collections.abc import Callable


def growth_in_fork(work: Callable[[], object]) -> int:
    """Bytes by which the peak grows in a fork that does the work; its peak starts where the parent stands."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        work()
        growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        os.write(writing, str(growth * (1 if sys.platform == "darwin" else 1024)).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        growth = int(answer.read())
    os.waitpid(child, 0)
    return growth
