//! All of a plugin but its work: the handshake, the request, and being told to stop.

use std::io::{self, BufRead, BufReader, Read};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::{
    Answer, Description, Done, Handshake, LONGEST_LINE, Problem, Progress, Request, Write,
};

/// Progress is told this often at most.
const INTERVAL: Duration = Duration::from_millis(500);

/// What a plugin does.
pub trait Plugin {
    /// What it is; the same each time.
    fn describe(&self) -> Description;

    /// Writes the artifact into the request's folder. Whoever takes long tells `work` how far it is, and stops
    /// where `work` says so.
    ///
    /// # Errors
    /// When the artifact cannot be written.
    fn write(&self, request: &Write, work: &Work) -> Result<Done, Problem>;
}

/// A write under way.
pub struct Work {
    cancelled: Arc<AtomicBool>,
    output: Mutex<Output>,
}

struct Output {
    writer: Box<dyn io::Write + Send>,
    told: Option<Instant>,
}

impl Work {
    /// Tells how many bytes of how many are done, and asks whether to go on.
    ///
    /// # Errors
    /// When the work is to be given up: return the problem as it is.
    pub fn advance(&self, done: u64, total: Option<u64>) -> Result<(), Problem> {
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        if output.told.is_none_or(|told| told.elapsed() >= INTERVAL) {
            output.told = Some(Instant::now());
            output
                .say(&Answer::Progress(Progress { done, total }))
                .map_err(|error| unheard(&error))?;
        }
        if self.cancelled.load(Ordering::SeqCst) { Err(Problem::new("cancelled")) } else { Ok(()) }
    }

    fn say(&self, message: &impl Serialize) -> io::Result<()> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).say(message)
    }
}

impl Output {
    fn say(&mut self, message: &impl Serialize) -> io::Result<()> {
        self.writer.write_all(crate::line(message)?.as_bytes())?;
        self.writer.flush()
    }
}

fn unheard(error: &io::Error) -> Problem {
    Problem::new(format!("nobody listens: {error}"))
}

/// Serves one request on standard input and output; `program` names the plugin and its version in messages
/// of others. The main function of a plugin is little else.
///
/// The exit code is 0 when the request was done or given up, 1 when it could not be done, and 2 when it was not
/// understood.
pub fn serve(plugin: &impl Plugin, program: &str) -> ExitCode {
    match serve_on(plugin, program, io::stdin(), Box::new(io::stdout())) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // Where nobody listens on standard output, somebody may read this.
            let _ = io::Write::write_fmt(&mut io::stderr(), format_args!("{program}: {error}\n"));
            ExitCode::from(2)
        }
    }
}

/// As [`serve`], on any input and output; gives the exit code.
///
/// # Errors
/// When the input cannot be read or is none of nodekiln's, or the output cannot be written.
pub fn serve_on(
    plugin: &impl Plugin,
    program: &str,
    input: impl Read + Send + 'static,
    output: Box<dyn io::Write + Send>,
) -> io::Result<u8> {
    let mut input = BufReader::new(input);
    let cancelled = Arc::new(AtomicBool::new(false));
    let output = Mutex::new(Output { writer: output, told: None });
    let work = Work { cancelled: Arc::clone(&cancelled), output };
    let Some(first) = next(&mut input)? else { return Ok(0) };
    let theirs: Handshake = serde_json::from_slice(&first).map_err(|_| {
        let text = "this is a provider plugin, which nodekiln starts; see `nodekiln provider list`";
        io::Error::new(io::ErrorKind::InvalidData, text)
    })?;
    let ours = Handshake::of(program);
    work.say(&ours)?; // 1. the handshake
    if ours.agreed(&theirs).is_none() {
        return Ok(2); // nodekiln has been told which versions there are
    }
    let Some(line) = next(&mut input)? else { return Ok(0) };
    let request = match serde_json::from_slice(&line) {
        Ok(request) => request, // 2. the request
        Err(error) => {
            work.say(&Answer::Error(Problem::new(format!("no request that I know: {error}"))))?;
            return Ok(2);
        }
    };
    let (answer, code) = match request {
        Request::Describe {} => (Answer::Description(Box::new(plugin.describe())), 0),
        Request::Cancel {} => (Answer::Cancelled {}, 0),
        Request::Write(request) => {
            let told = Arc::clone(&cancelled);
            // Ends with the process: a read cannot be given up.
            std::thread::spawn(move || {
                // A cancel, or the end of an input that nodekiln keeps open as long as it cares.
                let _ = next(&mut input);
                told.store(true, Ordering::SeqCst);
            });
            match plugin.write(&request, &work) {
                Ok(done) => (Answer::Done(done), 0),
                Err(_) if cancelled.load(Ordering::SeqCst) => (Answer::Cancelled {}, 0),
                Err(problem) => (Answer::Error(problem), 1),
            }
        }
    };
    work.say(&answer)?; // 3. the answer
    Ok(code)
}

/// The next line without its line feed; `None` at the end of the input.
fn next(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let limit = u64::try_from(LONGEST_LINE).unwrap_or(u64::MAX);
    input.take(limit).read_until(b'\n', &mut line)?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a line that has no end or more than {LONGEST_LINE} bytes"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::{Artifact, line};

    /// Waits to be cancelled where the image's name says so, fails where it says so.
    struct Fake;

    impl Plugin for Fake {
        fn describe(&self) -> Description {
            serde_json::from_str(
                r#"{"name":"fake","version":"1","description":"a test",
                "machine":{"firmware":["bios"],"disk":"virtio-blk","network":"virtio-net",
                "data-source":"NoCloud","console":"ttyS0",
                "accepts":{"multiple":1048576,"boot":["hybrid"]}},
                "input":"raw","artifacts":[{"file":"{name}.fake","format":"fake"}]}"#,
            )
            .unwrap()
        }

        fn write(&self, request: &Write, work: &Work) -> Result<Done, Problem> {
            work.advance(1, Some(2))?;
            match request.name.as_str() {
                "slow" => {
                    let begun = Instant::now();
                    while begun.elapsed() < Duration::from_secs(60) {
                        work.advance(2, Some(2))?;
                        std::thread::yield_now();
                    }
                    Err(Problem::new("nobody told it to stop"))
                }
                "bad" => Err(Problem::with_remedy("no room", "make some")),
                name => {
                    let file = format!("{name}.fake");
                    let artifact = Artifact { file, bytes: 0, sha256: String::new() };
                    Ok(Done { artifacts: vec![artifact], registration: [].into() })
                }
            }
        }
    }

    struct Said(mpsc::Sender<Vec<u8>>);

    impl io::Write for Said {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_owned()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const HELLO: &str = "{\"nodekiln_provider\":1}\n";

    fn write_of(name: &str) -> String {
        format!(
            r#"{{"request":"write","name":"{name}","input":{{"path":"/in","format":"raw","bytes":0,"sha256":""}},
            "folder":"/out","disk":{{"bytes":0,"sha256":"","boot":"hybrid"}},"compression":"default","created":0,
            "date":"1970-01-01T00:00:00Z","silence":60,
            "facts":{{"distribution":"debian","distribution-version":"12","architecture":"amd64"}}}}"#
        )
        .replace('\n', "")
            + "\n"
    }

    /// Exit code and answers to `input`, which ends, or is followed by nothing for ever.
    fn serve_text(input: &str, ends: bool) -> (io::Result<u8>, Vec<String>) {
        let (said, heard) = mpsc::channel();
        let text = io::Cursor::new(input.to_owned().into_bytes());
        let code = if ends {
            serve_on(&Fake, "fake 1", text, Box::new(Said(said)))
        } else {
            let (reader, _writer) = io::pipe().unwrap();
            serve_on(&Fake, "fake 1", text.chain(reader), Box::new(Said(said)))
        };
        let text: Vec<u8> = heard.iter().flatten().collect();
        (code, String::from_utf8(text).unwrap().lines().map(str::to_owned).collect())
    }

    #[test]
    fn a_description_follows_the_handshake() {
        let (code, said) = serve_text(&format!("{HELLO}{{\"request\":\"describe\"}}\n"), true);
        assert_eq!(code.unwrap(), 0);
        let hello: Handshake = serde_json::from_str(&said[0]).unwrap();
        assert_eq!((hello.nodekiln_provider, hello.program.as_str()), (1, "fake 1"));
        let expected = line(&Answer::Description(Box::new(Fake.describe()))).unwrap();
        assert_eq!(said[1..], [expected.trim_end()]);
    }

    #[test]
    fn another_version_is_told_ours_and_nothing_else() {
        let hello = r#"{"nodekiln_provider":9,"oldest":8}"#;
        let (code, said) = serve_text(&format!("{hello}\n{{\"request\":\"describe\"}}\n"), true);
        assert_eq!((code.unwrap(), said.len()), (2, 1));
    }

    #[test]
    fn nothing_to_do_is_a_good_end() {
        assert_eq!(serve_text("", true).0.unwrap(), 0);
        assert_eq!(serve_text(HELLO, true).0.unwrap(), 0);
    }

    #[test]
    fn a_write_ends_with_done_or_with_the_problem() {
        let (code, said) = serve_text(&(HELLO.to_owned() + &write_of("node")), false);
        assert_eq!(code.unwrap(), 0);
        assert!(said[2].contains("\"answer\":\"done\""), "{said:?}");
        let (code, said) = serve_text(&(HELLO.to_owned() + &write_of("bad")), false);
        assert_eq!(code.unwrap(), 1);
        assert_eq!(said[2], r#"{"answer":"error","message":"no room","remedy":"make some"}"#);
    }

    #[test]
    fn a_cancel_and_the_end_of_the_input_stop_a_write() {
        for end in ["{\"request\":\"cancel\"}\n", ""] {
            let (code, said) = serve_text(&(HELLO.to_owned() + &write_of("slow") + end), true);
            assert_eq!(code.unwrap(), 0);
            assert_eq!(said.last().unwrap(), r#"{"answer":"cancelled"}"#);
        }
    }

    #[test]
    fn what_is_no_request_is_answered_and_what_is_no_handshake_is_not() {
        let (code, said) = serve_text(&format!("{HELLO}{{\"request\":\"sing\"}}\n"), true);
        assert_eq!(code.unwrap(), 2);
        assert!(said[1].contains("no request that I know"), "{said:?}");
        let (code, said) = serve_text("hello\n", true);
        assert!(code.unwrap_err().to_string().contains("nodekiln starts"));
        assert_eq!(said, [""; 0]);
    }

    #[test]
    fn a_line_that_is_too_long_or_has_no_end_is_refused() {
        for text in ["x".repeat(LONGEST_LINE + 1), "{\"nodekiln_provider\":1}".to_owned()] {
            let failure = serve_text(&text, true).0.unwrap_err();
            assert!(failure.to_string().contains("no end or more than"), "{failure}");
        }
    }
}
