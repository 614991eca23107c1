"""A day of a whole federation in virtual time: the production scheduler, servers modelled at coarse grain."""
