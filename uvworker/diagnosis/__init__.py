"""What a worker does at this moment, from its stacks, and warnings about it."""
