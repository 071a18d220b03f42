"""A process that says that it is ready and waits for its end, in the place of others."""

import signal

from microcosmos.base import lifespan

signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
lifespan.report_ready()
signal.sigwait((signal.SIGTERM,))
