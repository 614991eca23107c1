"""Use cases: what happens, in which order. They know ports and core, never a library that touches the world."""
