"""What the workers of one arbiter know of one another: words that outlive a worker."""
