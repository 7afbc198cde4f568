"""Anchorhold: prompts, outputs and weights in the clear only inside an attested enclave."""

__version__ = "0.1.0"
