"""The dispatcher, whole: which waiting request goes to which server, and when. Pure; runs in virtual time."""
