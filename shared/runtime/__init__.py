"""Where processes are put together: the node, and the launcher that keeps nodes and store running."""
