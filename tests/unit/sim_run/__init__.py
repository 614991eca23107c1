"""The federation in virtual time."""
