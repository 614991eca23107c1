"""The simulator: a vLLM look-alike server, workloads, and the federation played in virtual time."""
