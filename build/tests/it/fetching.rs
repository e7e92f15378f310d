//! Fetching from servers that misbehave.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nodekiln_build::fetch::{FetchSettings, Fetcher, Wanted};
use nodekiln_build::store::Store;
use nodekiln_words::{Cancel, Class, Event, Progress, Sha256, Silent};

use crate::server::{Fault, Server};

struct Context {
    folder: tempfile::TempDir,
    server: Server,
    store: Arc<Store>,
}

impl Context {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(folder.path()).unwrap());
        Self { folder, server: Server::start(), store }
    }

    fn fetcher(&self) -> Fetcher {
        self.fetcher_with(settings())
    }

    fn fetcher_with(&self, settings: FetchSettings) -> Fetcher {
        let store = Arc::clone(&self.store);
        Fetcher::new(store, Arc::new(Silent), Cancel::default(), settings).unwrap()
    }

    /// A file of 100 kB on the server.
    fn file(&self, path: &str) -> (Vec<u8>, Wanted) {
        let bytes: Vec<u8> =
            (0..100_000_u32).map(|n| (n % 251) as u8).chain(path.bytes()).collect();
        self.server.put(path, bytes.clone());
        let wanted = Wanted {
            what: path.trim_start_matches('/').to_owned(),
            urls: vec![self.server.url(path)],
            sha256: Sha256::of(&bytes),
            size: Some(bytes.len() as u64),
        };
        (bytes, wanted)
    }

    fn partial_files(&self) -> usize {
        fs_err::read_dir(self.folder.path().join("scratch/partial")).unwrap().count()
    }
}

fn settings() -> FetchSettings {
    FetchSettings {
        backoff: Duration::from_millis(1),
        connect_timeout: Duration::from_millis(300),
        stall_timeout: Duration::from_millis(300),
        ..FetchSettings::default()
    }
}

#[test]
fn many_files_arrive_and_are_not_fetched_again() {
    let context = Context::new();
    let files: Vec<_> = (0..30).map(|n| context.file(&format!("/file{n}"))).collect();
    let wanted: Vec<Wanted> = files.iter().map(|(_, wanted)| wanted.clone()).collect();
    context.fetcher().fetch(&wanted).unwrap();
    context.fetcher().fetch(&wanted).unwrap();
    for (bytes, wanted) in &files {
        assert_eq!(&context.store.read_blob(&wanted.sha256).unwrap(), bytes);
        assert_eq!(context.server.requests(&format!("/{}", wanted.what)).len(), 1);
    }
    assert_eq!(context.partial_files(), 0);
}

#[test]
fn a_dropped_transfer_goes_on_where_it_stopped() {
    let context = Context::new();
    let (bytes, wanted) = context.file("/file");
    context.server.fail("/file", &[Fault::Drop(40_000), Fault::Drop(20_000)]);
    context.fetcher().fetch(std::slice::from_ref(&wanted)).unwrap();
    assert_eq!(context.store.read_blob(&wanted.sha256).unwrap(), bytes);
    let ranges = context.server.requests("/file");
    assert_eq!(ranges[0], None);
    assert_eq!(ranges[1].as_deref(), Some("bytes=40000-"));
    assert_eq!(ranges[2].as_deref(), Some("bytes=60000-"));
}

#[test]
fn a_later_process_goes_on_where_an_earlier_one_stopped() {
    let context = Context::new();
    let (bytes, wanted) = context.file("/file");
    context.server.fail("/file", &[Fault::Drop(40_000)]);
    let impatient = FetchSettings { attempts: 1, ..settings() };
    let failure = context.fetcher_with(impatient).fetch(std::slice::from_ref(&wanted)).unwrap_err();
    assert_eq!(failure.class(), Class::Missing);
    assert_eq!(context.partial_files(), 1);
    context.fetcher().fetch(std::slice::from_ref(&wanted)).unwrap();
    assert_eq!(context.store.read_blob(&wanted.sha256).unwrap(), bytes);
    assert_eq!(context.server.requests("/file")[1].as_deref(), Some("bytes=40000-"));
}

#[test]
fn a_server_without_ranges_is_asked_for_the_whole_file() {
    let context = Context::new();
    let (bytes, wanted) = context.file("/file");
    context.server.refuse_ranges();
    context.server.fail("/file", &[Fault::Drop(40_000)]);
    context.fetcher().fetch(std::slice::from_ref(&wanted)).unwrap();
    assert_eq!(context.store.read_blob(&wanted.sha256).unwrap(), bytes);
}

#[test]
fn a_part_that_is_wrong_or_too_long_is_thrown_away() {
    for length in [40_000, 200_000] {
        let context = Context::new();
        let (bytes, wanted) = context.file("/file");
        let part = context.folder.path().join("scratch/partial").join(wanted.sha256.to_string());
        fs_err::write(part, vec![7; length]).unwrap();
        context.fetcher().fetch(std::slice::from_ref(&wanted)).unwrap();
        assert_eq!(context.store.read_blob(&wanted.sha256).unwrap(), bytes);
    }
}

#[test]
fn overload_and_broken_answers_are_tried_again() {
    let context = Context::new();
    let (_, wanted) = context.file("/file");
    let faults = [Fault::Status(503), Fault::Status(429), Fault::Truncate(1000)];
    context.server.fail("/file", &faults);
    context.fetcher().fetch(std::slice::from_ref(&wanted)).unwrap();
    assert_eq!(context.server.requests("/file").len(), 4);
}

#[test]
fn a_servers_wish_for_a_pause_comes_before_the_usual_one() {
    let context = Context::new();
    let (_, wanted) = context.file("/file");
    context.server.put("/text", "text");
    let minute = FetchSettings { backoff: Duration::from_secs(60), ..settings() };
    let fetch = |settings: FetchSettings, seconds| {
        for path in ["/file", "/text"] {
            context.server.fail(path, &[Fault::Busy(seconds)]);
        }
        let (fetcher, start) = (context.fetcher_with(settings), Instant::now());
        assert_eq!(fetcher.fetch_text(&context.server.url("/text")).unwrap(), b"text");
        let text = start.elapsed();
        fetcher.fetch(std::slice::from_ref(&wanted)).unwrap();
        let blob = context.store.blob_path(&wanted.sha256).unwrap();
        fs_err::remove_file(blob).unwrap();
        [text, start.elapsed() - text]
    };
    for time in fetch(minute, 0) {
        assert!(time < Duration::from_secs(10), "{time:?}");
    }
    for time in fetch(settings(), 1) {
        assert!(time >= Duration::from_secs(1), "{time:?}");
    }
}

#[test]
fn wrong_bytes_are_refused_with_file_and_both_digests() {
    let context = Context::new();
    let (bytes, wanted) = context.file("/file");
    context.server.fail("/file", &[Fault::Wrong, Fault::Wrong]);
    let failure = context.fetcher().fetch(std::slice::from_ref(&wanted)).unwrap_err();
    let found = Sha256::of(bytes.iter().map(|byte| byte ^ 1).collect::<Vec<_>>());
    let text = failure.to_string();
    assert_eq!(failure.class(), Class::Io);
    for part in ["cannot fetch file", &wanted.sha256.to_string(), &found.to_string()] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!context.store.has_blob(&wanted.sha256));
    assert_eq!(context.partial_files(), 0);
    assert_eq!(context.server.requests("/file").len(), 1, "the same address is not asked again");
}

#[test]
fn the_next_address_is_tried_after_a_missing_and_a_wrong_file() {
    let context = Context::new();
    let (bytes, mut wanted) = context.file("/file");
    context.server.put("/wrong", vec![0; bytes.len()]);
    wanted.urls = ["/missing", "/wrong", "/file"].map(|path| context.server.url(path)).to_vec();
    context.fetcher().fetch(std::slice::from_ref(&wanted)).unwrap();
    assert_eq!(context.store.read_blob(&wanted.sha256).unwrap(), bytes);
    assert_eq!(context.server.requests("/missing").len(), 1, "404 is not tried again");
    assert_eq!(context.server.requests("/file"), [None], "wrong bytes are not resumed");
}

/// Addresses that fail before they send a byte say nothing about those that have arrived.
#[test]
fn a_part_outlives_addresses_that_do_not_have_the_file() {
    let context = Context::new();
    let (bytes, mut wanted) = context.file("/file");
    let part = context.folder.path().join("scratch/partial").join(wanted.sha256.to_string());
    fs_err::write(&part, &bytes[..40_000]).unwrap();
    let whole = wanted.urls.clone();
    let mut bad = ["/forbidden", "/gone"].map(|path| context.server.url(path)).to_vec();
    bad.push("file:///nonexistent/file".to_owned());
    context.server.fail("/forbidden", &[const { Fault::Status(403) }; 2]);
    wanted.urls = bad.clone();
    context.fetcher().fetch(std::slice::from_ref(&wanted)).unwrap_err();
    assert_eq!(fs_err::read(&part).unwrap(), &bytes[..40_000], "for a later run");
    wanted.urls = [bad, whole].concat();
    context.fetcher().fetch(std::slice::from_ref(&wanted)).unwrap();
    assert_eq!(context.store.read_blob(&wanted.sha256).unwrap(), bytes);
    assert_eq!(context.server.requests("/file"), [Some("bytes=40000-".to_owned())]);
}

#[test]
fn a_part_that_is_whole_is_not_asked_for() {
    let context = Context::new();
    let (bytes, wanted) = context.file("/file");
    let part = context.folder.path().join("scratch/partial").join(wanted.sha256.to_string());
    fs_err::write(part, &bytes).unwrap();
    context.fetcher().fetch(std::slice::from_ref(&wanted)).unwrap();
    assert_eq!(context.store.read_blob(&wanted.sha256).unwrap(), bytes);
    assert!(context.server.requests("/file").is_empty());
    assert_eq!(context.partial_files(), 0);
}

#[test]
fn a_missing_file_is_named_with_a_remedy() {
    let context = Context::new();
    let (_, wanted) = context.file("/file");
    context.server.remove("/file");
    let failure = context.fetcher().fetch(&[wanted]).unwrap_err();
    assert!(failure.to_string().contains("cannot fetch file"), "{failure}");
    assert!(failure.to_string().contains("404"), "{failure}");
    assert!(failure.help().is_some());
}

#[test]
fn more_bytes_than_expected_are_refused() {
    let context = Context::new();
    let (_, mut wanted) = context.file("/file");
    wanted.size = Some(1000);
    let failure = context.fetcher().fetch(&[wanted]).unwrap_err();
    assert!(failure.to_string().contains("more than the 1000 bytes"), "{failure}");
}

#[test]
fn a_server_that_hangs_fails_in_time() {
    let context = Context::new();
    let (_, wanted) = context.file("/file");
    context.server.fail("/file", &[Fault::Hang, Fault::Hang]);
    let start = Instant::now();
    let impatient = FetchSettings { attempts: 2, ..settings() };
    let failure = context.fetcher_with(impatient).fetch(&[wanted]).unwrap_err();
    assert_eq!(failure.class(), Class::Missing);
    assert!(failure.to_string().contains("sent nothing"), "{failure}");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn nobody_listening_is_a_missing_service() {
    let context = Context::new();
    let (_, mut wanted) = context.file("/file");
    wanted.urls = vec!["http://127.0.0.1:9/file".to_owned()];
    let failure = context.fetcher().fetch(&[wanted]).unwrap_err();
    assert_eq!(failure.class(), Class::Missing);
    assert!(failure.to_string().contains("127.0.0.1:9"), "{failure}");
    assert!(failure.help().unwrap().contains("https_proxy"));
}

#[test]
fn cancelling_ends_a_transfer() {
    let context = Context::new();
    let (_, wanted) = context.file("/file");
    context.server.fail("/file", &[Fault::Hang]);
    let cancel = Cancel::default();
    let patient = FetchSettings { stall_timeout: Duration::from_secs(30), ..settings() };
    let store = Arc::clone(&context.store);
    let fetcher = Fetcher::new(store, Arc::new(Silent), cancel.clone(), patient).unwrap();
    let stopper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        cancel.cancel();
    });
    let start = Instant::now();
    assert_eq!(fetcher.fetch(&[wanted]).unwrap_err().class(), Class::Interrupted);
    assert!(start.elapsed() < Duration::from_secs(10));
    stopper.join().unwrap();
}

#[test]
fn local_files_are_taken_by_file_addresses() {
    let context = Context::new();
    let (bytes, mut wanted) = context.file("/file");
    let path = context.folder.path().join("local file");
    fs_err::write(&path, &bytes).unwrap();
    wanted.urls = vec![url::Url::from_file_path(&path).unwrap().to_string()];
    context.fetcher().fetch(std::slice::from_ref(&wanted)).unwrap();
    assert_eq!(context.store.read_blob(&wanted.sha256).unwrap(), bytes);
    assert_eq!(context.fetcher().fetch_text(&wanted.urls[0]).unwrap(), bytes);
}

#[test]
fn progress_counts_the_bytes_of_the_set() {
    #[derive(Default)]
    struct Events(Mutex<Vec<Event>>);
    impl Progress for Events {
        fn event(&self, event: Event) {
            self.0.lock().unwrap().push(event);
        }
    }
    let context = Context::new();
    let wanted: Vec<Wanted> = (0..8).map(|n| context.file(&format!("/file{n}")).1).collect();
    let events = Arc::new(Events::default());
    let progress: Arc<dyn Progress> = Arc::clone(&events) as _;
    let store = Arc::clone(&context.store);
    Fetcher::new(store, progress, Cancel::default(), settings()).unwrap().fetch(&wanted).unwrap();
    let events = events.0.lock().unwrap();
    let total: u64 = wanted.iter().filter_map(|file| file.size).sum();
    let Some(Event::Started { total: Some(said), unit: "B", title, .. }) = events.first() else {
        panic!("no start in {events:?}");
    };
    assert_eq!((*said, title.as_str()), (total, "fetch 8 files"));
    let advanced = |event: &Event| match event {
        Event::Advanced { done, .. } => Some(*done),
        _ => None,
    };
    let most = events.iter().filter_map(advanced).max();
    assert!(most.is_some_and(|most| most > 0 && most <= total), "{events:?}");
    assert!(matches!(events.last(), Some(Event::Finished { .. })));
}

#[test]
fn a_text_is_asked_for_conditionally_and_kept_for_offline_use() {
    let context = Context::new();
    context.server.put("/text", "one");
    let url = context.server.url("/text");
    let offline = FetchSettings { offline: true, ..settings() };
    let failure = context.fetcher_with(offline.clone()).fetch_text(&url).unwrap_err();
    assert_eq!(failure.class(), Class::Missing);
    assert_eq!(context.fetcher().fetch_text(&url).unwrap(), b"one");
    assert_eq!(context.fetcher().fetch_text(&url).unwrap(), b"one");
    assert_eq!(context.server.unchanged(), 1);
    context.server.put("/text", "two");
    assert_eq!(context.fetcher().fetch_text(&url).unwrap(), b"two");
    assert_eq!(context.fetcher_with(offline).fetch_text(&url).unwrap(), b"two");
    assert_eq!(context.server.requests("/text").len(), 3);
}

#[test]
fn a_text_whose_copy_was_damaged_is_fetched_whole() {
    let context = Context::new();
    context.server.put("/text", "one");
    let url = context.server.url("/text");
    context.fetcher().fetch_text(&url).unwrap();
    let blob = context.store.blob_path(&Sha256::of("one")).unwrap();
    fs_err::remove_file(&blob).unwrap();
    fs_err::write(&blob, "0ne").unwrap();
    assert_eq!(context.fetcher().fetch_text(&url).unwrap(), b"one");
    assert_eq!(context.server.unchanged(), 0);
}

#[test]
fn a_text_that_is_not_there_is_told_from_a_server_in_trouble() {
    let context = Context::new();
    context.server.put("/there", "text");
    context.server.fail("/trouble", &[const { Fault::Status(500) }; 9]);
    let urls = ["/there", "/missing", "/trouble"].map(|path| context.server.url(path));
    let mut texts = context.fetcher().fetch_texts(&urls).into_iter();
    assert_eq!(texts.next().unwrap().unwrap().as_deref(), Some(&b"text"[..]));
    assert_eq!(texts.next().unwrap().unwrap(), None);
    assert_eq!(texts.next().unwrap().unwrap_err().class(), Class::Missing);
    assert_eq!(context.server.requests("/trouble").len(), 4);
    assert_eq!(context.server.requests("/missing").len(), 1);
}

#[test]
fn offline_a_text_that_was_not_there_is_known_not_to_be_there() {
    let context = Context::new();
    let urls = [context.server.url("/missing")];
    let offline = context.fetcher_with(FetchSettings { offline: true, ..settings() });
    let text = |fetcher: &Fetcher| fetcher.fetch_texts(&urls).pop().unwrap();
    assert_eq!(text(&offline).unwrap_err().class(), Class::Missing);
    assert_eq!(text(&context.fetcher()).unwrap(), None);
    assert_eq!(text(&offline).unwrap(), None);
    context.server.put("/missing", "come");
    assert_eq!(text(&context.fetcher()).unwrap().as_deref(), Some(&b"come"[..]));
    assert_eq!(text(&offline).unwrap().as_deref(), Some(&b"come"[..]));
}

#[test]
fn offline_names_the_file_that_is_lacking() {
    let context = Context::new();
    let (_, wanted) = context.file("/file");
    let offline = FetchSettings { offline: true, ..settings() };
    let failure = context.fetcher_with(offline).fetch(&[wanted]).unwrap_err();
    assert!(failure.to_string().contains("file is not in the content store"), "{failure}");
    assert!(context.server.requests("/file").is_empty());
}

#[test]
fn an_unusable_proxy_or_certificate_file_is_an_input_error() {
    let context = Context::new();
    let no_pem = context.folder.path().join("certificate.der");
    fs_err::write(&no_pem, [0x30, 0x82, 0x03]).unwrap();
    let wrong = [
        FetchSettings { ca_file: Some(no_pem), ..settings() },
        FetchSettings { proxy: Some("::".to_owned()), ..settings() },
        FetchSettings { ca_file: Some("/nonexistent.pem".into()), ..settings() },
    ];
    for settings in wrong {
        let store = Arc::clone(&context.store);
        let outcome = Fetcher::new(store, Arc::new(Silent), Cancel::default(), settings);
        assert_eq!(outcome.err().unwrap().class(), Class::Input);
    }
}

#[test]
fn a_proxy_is_asked_in_place_of_the_server() {
    let context = Context::new();
    let proxy = Server::start();
    // A proxy is sent the whole address (RFC 9112, section 3.2.2).
    proxy.put("http://mirror.invalid/text", "by proxy");
    let settings = FetchSettings { proxy: Some(proxy.base().to_owned()), ..settings() };
    let text = context.fetcher_with(settings).fetch_text("http://mirror.invalid/text").unwrap();
    assert_eq!(text, b"by proxy");
}

/// A server with TLS on a port of its own, by the program `openssl` (Debian package `openssl`). It
/// serves the files of its folder, which are whole answers.
struct SecureServer {
    process: std::process::Child,
    folder: tempfile::TempDir,
    base: String,
}

impl SecureServer {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
            .args(["-nodes", "-days", "2", "-subj", "/CN=test", "-keyout", "key", "-out", "ca"])
            .args(["-addext", "subjectAltName=IP:127.0.0.1"])
            .current_dir(folder.path())
            .output();
        let made = made.expect("openssl of the package openssl");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut process = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-cert", "ca", "-key", "key", "-HTTP"])
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            Some(line.unwrap().strip_prefix("ACCEPT 127.0.0.1:")?.trim().to_owned())
        });
        // It writes a line for each request, and must not meet a closed pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let base = format!("https://127.0.0.1:{}", port.expect("openssl s_server starts"));
        Self { process, folder, base }
    }

    fn put(&self, name: &str, answer: &str) {
        fs_err::write(self.folder.path().join(name), answer).unwrap();
    }

    fn url(&self, name: &str) -> String {
        format!("{}/{name}", self.base)
    }

    fn settings(&self) -> FetchSettings {
        let patient = Duration::from_secs(5);
        let ca_file = Some(self.folder.path().join("ca"));
        FetchSettings { ca_file, connect_timeout: patient, stall_timeout: patient, ..settings() }
    }
}

impl Drop for SecureServer {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[test]
fn a_redirection_from_https_to_http_is_refused() {
    let context = Context::new();
    context.server.put("/text", "by http");
    let secure = SecureServer::start();
    let moved = |to: &str| format!("HTTP/1.0 302 Found\r\nLocation: {to}\r\n\r\n");
    secure.put("text", "HTTP/1.0 200 OK\r\n\r\nby https");
    secure.put("within", &moved(&secure.url("text")));
    secure.put("out", &moved(&context.server.url("/text")));
    let fetcher = context.fetcher_with(secure.settings());
    assert_eq!(fetcher.fetch_text(&secure.url("within")).unwrap(), b"by https");
    let failure = fetcher.fetch_text(&secure.url("out")).unwrap_err();
    assert_eq!(failure.class(), Class::Io);
    assert!(format!("{failure:?}").contains("not https"), "{failure:?}");
    assert!(failure.help().is_some());
    assert!(context.server.requests("/text").is_empty());
}

#[test]
fn a_private_authority_is_trusted_only_where_it_is_named() {
    let context = Context::new();
    let secure = SecureServer::start();
    secure.put("text", "HTTP/1.0 200 OK\r\n\r\nby https");
    let url = secure.url("text");
    assert_eq!(context.fetcher().fetch_text(&url).unwrap_err().class(), Class::Missing);
    assert_eq!(context.fetcher_with(secure.settings()).fetch_text(&url).unwrap(), b"by https");
}
