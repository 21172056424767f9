"""The workflow engine: a process as a page of YAML, whose state changes exactly once an event, never stuck silently."""
