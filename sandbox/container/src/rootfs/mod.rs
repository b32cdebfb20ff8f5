//! The container's file system: mounts, devices, pivot, masked and read-only paths.
