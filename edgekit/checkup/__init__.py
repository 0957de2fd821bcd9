"""What the doctor looks at: the machine, what is installed on it, and whether its integer kernels compute right."""
