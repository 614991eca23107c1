"""Configuration, wiring and observation: the only room that names implementations."""
