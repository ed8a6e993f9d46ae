"""What the kernel, the container and systemd say of this machine, and hear from it."""
