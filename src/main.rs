//! The nodekiln command line.
fn main() {}
