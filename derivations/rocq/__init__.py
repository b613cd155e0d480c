"""A kernel under the claims: theorems in Rocq (Coq 8.16 or later), and exporters that tie them to the code.

The `.v` files of this folder are written by hand and hold the theorems: the critical path from the regularized optimum
to SimPO, the general master theorem, KL (DPO) and entropy, the retention law. `traced` prints the functions of
`derivations.objectives` as Rocq terms, which `Code.v` proves to be the formulas of those theorems; `identities` prints
every identity and sign of the claims, with a proof for the kernel to check. `kernel` compiles all of it with `coqc`.
"""
