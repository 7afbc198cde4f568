"""Enclave images: EIF, cpio and PCR0, 1, 2 and 8."""
