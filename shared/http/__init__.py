"""The edge: what every service says and refuses over HTTP, before and around its own routes."""
