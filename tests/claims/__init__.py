"""Every scheduling claim, as a test in virtual time on the code that schedules in production."""
