"""Regularizers, preference models and objectives, and the proofs about them.

Three ground-floor modules hold every formula once, written against the array API:
`regularizers`, `preferences`, `objectives`. They import neither SymPy nor torch. Everything else in
this package traces those functions with SymPy and proves statements about them.
"""
