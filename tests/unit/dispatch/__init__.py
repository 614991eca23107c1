"""The dispatcher's core: every rule by table, and its invariants under any order of events."""
