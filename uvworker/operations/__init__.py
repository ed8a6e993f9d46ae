"""What an operator sees of a running service: health, metrics, states.

Everything here is computed from `facts`, which `observation` reads from shared memory.
The rule: an answer needs neither the app nor its event loop, so that it also comes when
one of them hangs.
"""
