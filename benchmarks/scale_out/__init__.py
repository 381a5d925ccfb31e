"""What runs on several machines, measured on one."""
