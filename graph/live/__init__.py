"""Live delivery: whoever watches the same thing in the same way shares the work of one."""
