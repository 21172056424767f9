"""Every bound of the workflow engine: its unit, its reason, and how bounds relate.

The bounds of one run follow from its being one object: what is loaded whole is kept small, and what one turn may write
decides how much may happen in one transition.
"""

from shared.bounds import VALUE_BYTES_MAX

# What travels. One value of the store holds it with what stands around it.
PAYLOAD_BYTES_MAX = 96 * 1024  # Run input, step result, signal, one evaluated template.
assert PAYLOAD_BYTES_MAX < VALUE_BYTES_MAX

# Expressions. They run on the loop: a turn of ordinary expressions takes microseconds, and a bad one this at most.
EXPRESSION_BYTES_MAX = 8 * 1024  # Longer ones are programs; they belong into a worker.
EXPRESSION_STEPS_MAX = 100_000  # About 4 ms of recursion, the most expensive step there is.
EXPRESSION_MS_MAX = 250  # The net under the steps, for functions of one step that do much: patterns, sorts.
EXPRESSION_DEPTH_MAX = 200
EXPRESSION_ARRAY_MAX = 100_000
EXPRESSIONS_KEPT = 4_096  # Compiled; some 20 definitions of the largest size.
