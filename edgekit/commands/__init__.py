"""What a person can ask for, one module a command; the command line and `edgekit`'s own names both lead here."""
