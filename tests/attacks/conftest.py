"""The hostile parent meets real processes: the stack of the end-to-end tests, with cells of its own."""

from tests.e2e.conftest import base, cells

__all__ = ["base", "cells"]
