//! The sandbox's stages as a program of their own, for callers that are not nodekiln itself.

use std::process::ExitCode;

fn main() -> ExitCode {
    nodekiln_build::sandbox::enter_if_asked().unwrap_or(ExitCode::FAILURE)
}
