"""What holds for every test."""

import signal

from hypothesis import settings

# No test asserts a time: an example that a busy machine held up is no failure.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# A shell that runs this in the background has SIGINT ignored, and so would every process that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# `nohup` has SIGHUP ignored. One that is caught, if only to go on, is the default again in every process started here.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda _number, _frame: None)
