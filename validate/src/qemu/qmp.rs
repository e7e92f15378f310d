//! QMP, the QEMU Machine Protocol: JSON objects, one a line, over a unix socket.
//!
//! The server greets, the client answers `qmp_capabilities`, and from then on each command gets one
//! `return` or `error`; events come in between, of which only the machine's end is kept. Source:
//! QEMU's documentation, "QEMU Machine Protocol Specification".

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nodekiln_words::{Failure, Result, ResultExt as _};
use serde_json::{Value, json};

/// QEMU answers within milliseconds, also when the guest hangs; a loaded host may take longer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// More than this without a line end is no QMP.
const LONGEST_LINE: usize = 1 << 20;

/// A session with a running QEMU.
#[derive(Debug)]
pub struct Qmp {
    stream: BufReader<UnixStream>,
    end: Option<String>,
}

impl Qmp {
    /// Connects to `socket`, which QEMU may still be about to make, and negotiates.
    ///
    /// # Errors
    /// When nothing greets at `socket` within `deadline`, or `still_there` fails meanwhile.
    pub fn connect(
        socket: &Path,
        deadline: Duration,
        mut still_there: impl FnMut() -> Result<()>,
    ) -> Result<Self> {
        let started = Instant::now();
        let stream = loop {
            still_there()?;
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) if started.elapsed() > deadline => {
                    return Err(
                        Failure::io(format!("no QMP at {}", socket.display())).with_source(error)
                    );
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        Self::negotiate(stream, deadline)
    }

    fn negotiate(stream: UnixStream, deadline: Duration) -> Result<Self> {
        stream.set_read_timeout(Some(deadline)).or_io(|| "set up QMP".into())?;
        let mut qmp = Self { stream: BufReader::new(stream), end: None };
        let greeting = qmp.read()?;
        if greeting.get("QMP").is_none() {
            return Err(Failure::io(format!(
                "what answers on the QMP socket is not QEMU: {greeting}"
            )));
        }
        let timeout = Some(ANSWER_DEADLINE);
        qmp.stream.get_ref().set_read_timeout(timeout).or_io(|| "set up QMP".into())?;
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Executes `command` and returns what it returns.
    ///
    /// # Errors
    /// When QEMU refuses the command, is gone, or does not answer.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        let line = format!("{request}\n");
        self.stream
            .get_mut()
            .write_all(line.as_bytes())
            .or_io(|| format!("send QMP command {command}"))?;
        loop {
            let mut answer =
                self.read().map_err(|failure| failure.context(format!("QMP command {command}")))?;
            if let Some(error) = answer.get("error") {
                let text = error.get("desc").and_then(Value::as_str).unwrap_or("no description");
                return Err(Failure::io(format!("QEMU refused {command}: {text}")));
            }
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            self.note(&answer);
        }
    }

    /// Keeps why the machine goes off: `guest-shutdown`, `guest-reset`, `host-signal`, …
    fn note(&mut self, event: &Value) {
        if event.get("event").and_then(Value::as_str) == Some("SHUTDOWN") {
            let reason = event.pointer("/data/reason").and_then(Value::as_str);
            self.end = reason.map(str::to_owned);
        }
    }

    /// Why the machine went off, once QEMU has ended: what it still said is read. `None` where it said
    /// nothing.
    pub fn farewell(&mut self) -> Option<&str> {
        while let Ok(event) = self.read() {
            self.note(&event);
        }
        self.end.as_deref()
    }

    /// The machine's state: `running`, `paused`, `shutdown`, `internal-error`, …
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn status(&mut self) -> Result<String> {
        let answer = self.execute("query-status", &json!({}))?;
        Ok(answer.get("status").and_then(Value::as_str).unwrap_or("unknown").to_owned())
    }

    /// Presses the ACPI power button.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn power_down(&mut self) -> Result<()> {
        self.execute("system_powerdown", &json!({})).map(drop)
    }

    /// Ends QEMU.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn quit(&mut self) -> Result<()> {
        self.execute("quit", &json!({})).map(drop)
    }

    /// Writes a picture of the guest's screen to `file`, in the format PPM.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn screendump(&mut self, file: &Path) -> Result<()> {
        self.execute("screendump", &json!({ "filename": file })).map(drop)
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = Vec::new();
        loop {
            let chunk = match self.stream.fill_buf() {
                Ok([]) => return Err(Failure::io("QEMU closed the QMP socket")),
                Ok(chunk) => chunk,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(Failure::io("QEMU does not answer on QMP").with_source(error));
                }
            };
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(chunk.len(), |end| end + 1);
            line.extend_from_slice(&chunk[..taken]);
            self.stream.consume(taken);
            if line.len() > LONGEST_LINE {
                return Err(Failure::io("a QMP answer is longer than 1 MiB"));
            }
            if end.is_some() {
                return serde_json::from_slice(&line)
                    .or_io(|| "QEMU's answer on QMP is not JSON".into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends `script`, one element after each line it reads (the first at once).
    fn serve(
        script: &'static [&'static str],
    ) -> Result<(Qmp, std::thread::JoinHandle<Vec<String>>)> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = std::thread::spawn(move || {
            let mut reader = BufReader::new(theirs);
            let mut heard = Vec::new();
            for (turn, text) in script.iter().enumerate() {
                if turn > 0 {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap_or(0) == 0 {
                        break;
                    }
                    heard.push(line.trim().to_owned());
                }
                reader.get_mut().write_all(text.as_bytes()).unwrap();
            }
            heard
        });
        Qmp::negotiate(ours, Duration::from_secs(5)).map(|qmp| (qmp, server))
    }

    const GREETING: &str = "{\"QMP\":{\"version\":{},\"capabilities\":[]}}\r\n";

    #[test]
    fn events_between_answers_are_passed_over() {
        let (mut qmp, server) = serve(&[
            GREETING,
            "{\"return\":{}}\r\n",
            "{\"event\":\"RESUME\",\"timestamp\":{}}\r\n{\"return\":{\"status\":\"running\"}}\r\n",
        ])
        .unwrap();
        assert_eq!(qmp.status().unwrap(), "running");
        assert!(server.join().unwrap()[1].contains("query-status"));
    }

    #[test]
    fn the_reason_of_the_end_is_kept_wherever_it_comes() {
        let script: &[&str] = &[
            GREETING,
            "{\"return\":{}}\n",
            "{\"event\":\"POWERDOWN\"}\n{\"return\":{}}\n{\"event\":\"SHUTDOWN\",\"data\":{\"guest\":true,\"reason\":\"guest-reset\"}}\n{\"event\":\"STOP\"}\n",
        ];
        let (mut qmp, server) = serve(script).unwrap();
        qmp.power_down().unwrap();
        server.join().unwrap();
        assert_eq!(qmp.farewell(), Some("guest-reset"));
        let (mut qmp, server) = serve(&[GREETING, "{\"return\":{}}\n"]).unwrap();
        server.join().unwrap();
        assert_eq!(qmp.farewell(), None);
    }

    #[test]
    fn a_refusal_carries_qemus_words() {
        let (mut qmp, _server) = serve(&[
            GREETING,
            "{\"return\":{}}\n",
            "{\"error\":{\"class\":\"GenericError\",\"desc\":\"no screen\"}}\n",
        ])
        .unwrap();
        let failure = qmp.screendump(Path::new("/x")).unwrap_err();
        assert!(failure.to_string().contains("no screen"), "{failure:?}");
    }

    #[test]
    fn a_server_that_is_not_qemu_or_hangs_up_is_refused() {
        assert!(serve(&["{\"hello\":1}\n"]).is_err());
        assert!(serve(&["SSH-2.0-OpenSSH\r\n"]).is_err());
        assert!(serve(&[""]).is_err());
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
        #[test]
        fn whatever_answers_instead_of_qemu_ends_in_an_error(bytes: Vec<u8>) {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(&bytes).unwrap();
            drop(theirs);
            proptest::prop_assert!(Qmp::negotiate(ours, Duration::from_secs(5)).is_err());
        }
    }
}
