//! What is enforced on a running container, read back from the kernel.
