"""What decides: values, rules and the scheduler. No I/O, no clock, no randomness, no async; time is an argument."""
