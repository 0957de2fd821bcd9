"""Labs: where candidates are measured."""
