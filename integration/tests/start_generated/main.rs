//! `seccomp = "generate"`: the profile is made at the first start of an image, kept for the second, and
//! made again when anything that it was made of has changed.

/// The command line, with bundles.
mod bundles;
/// containerd and Docker, with images.
mod engines;
/// A place for each test.
mod place;
