"""What holds for every test."""

import signal

from hypothesis import HealthCheck, settings

# A shell that runs this in the background has SIGINT ignored, and so would every process that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# `nohup` has SIGHUP ignored. One that is caught, if only to go on, is the default again in every process started here.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda _number, _frame: None)
# No test asserts a time. Hypothesis gives each example 200 ms, and the first ones together a second: a machine that
# stalls, or a cache that only the first example fills, would be called a flaky test.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
