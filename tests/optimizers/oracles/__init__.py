"""Float64 NumPy transcriptions of the papers' equations, written without looking at the package: the slow twins.

An oracle is a function ``step(theta, g, state, t, label, o) -> theta``: arrays in, the new parameter out. ``label``
gives the number of the block of every entry, ``o`` the options, ``state`` the slots (per-block slots as 1-d arrays).
"""
