"""Simulation: a toy hypervisor with a toy root. Imported by the command line and tests only."""
