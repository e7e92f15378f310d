//! Scripts that ask the guest's API server.
//!
//! `kubectl` takes seconds to start under emulation, and each question would start it. A script made by [`api_script`] is
//! Python instead, in front of which stands the client in `api_server/client.py`. cloud-init is written in Python, so a guest
//! that came as far as a cluster has it; what it speaks is what `kubectl` speaks: HTTPS with the administrator's
//! certificate, and web sockets for exec and forwarded ports.

/// A shell script that runs the given Python with the client, and then, where that succeeded, the given shell command. The
/// script's arguments are those of the Python too.
macro_rules! api_script {
    ($python:expr) => {
        $crate::api_server::api_script!($python, "true")
    };
    ($python:expr, $then:expr) => {
        concat!(
            "\"$(command -v python3 || echo /usr/libexec/platform-python)\" - \"$@\" <<'NODEKILN' && ",
            $then,
            "\n",
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/api_server/client.py")),
            $python,
            "\nNODEKILN\n"
        )
    };
}
pub(crate) use api_script;
