"""The `ilaas` command: thin; every verb calls a service or an app function."""
