use std::time::Duration;

/// How long a plugin may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// To answer the handshake.
    pub handshake: Duration,
    /// To say what it is.
    pub describe: Duration,
    /// Between two messages while it writes.
    pub silence: Duration,
    /// To end after its last answer.
    pub end: Duration,
    /// To give up a write when it is told to; then it gets SIGTERM.
    pub cancel: Duration,
    /// To end after SIGTERM; then it gets SIGKILL.
    pub terminate: Duration,
}

impl Default for Limits {
    /// Those of `docs/plugins.md`.
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            describe: Duration::from_secs(10),
            silence: Duration::from_secs(60),
            end: Duration::from_secs(10),
            cancel: Duration::from_secs(5),
            terminate: Duration::from_secs(3),
        }
    }
}
