//! Upstream's release server and a registry, played by this process on the loopback address.
//!
//! The server is strict: it knows the addresses it was given and no others, asks for a token where
//! told to, and gives manifests only to those who accept their kind.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use nodekiln_build::fetch::{FetchSettings, Fetcher};
use nodekiln_build::kubernetes::release::{resolve, resolve_image_archives};
use nodekiln_build::oci::layer::{self, Entries, Node};
use nodekiln_build::oci::registry::Registry;
use nodekiln_build::oci::{self, Image, ImageSpec, media_type, read};
use nodekiln_build::steps::{fetched_images, kubernetes_files};
use nodekiln_build::store::Store;
use nodekiln_recipes::recipe::{Architecture, Version};
use nodekiln_words::{Cancel, Sha256, Silent};

use crate::node::{Bench, source_date};

/// What the server has at an address.
#[derive(Clone)]
struct Page {
    kind: &'static str,
    body: Vec<u8>,
}

#[derive(Default)]
pub(crate) struct Site {
    pages: BTreeMap<String, Page>,
    /// Addresses below this prefix need the token.
    closed: Option<&'static str>,
    /// Addresses that were asked for, with the status of the answer.
    pub(crate) asked: Mutex<Vec<(String, u16)>>,
}

const TOKEN: &str = "a-token";

impl Site {
    pub(crate) fn put(
        &mut self,
        path: impl Into<String>,
        kind: &'static str,
        body: impl Into<Vec<u8>>,
    ) {
        self.pages.insert(path.into(), Page { kind, body: body.into() });
    }

    /// Serves until the process ends and returns the address.
    pub(crate) fn serve(self) -> (String, Arc<Self>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let site = Arc::new(self);
        let (server, base) = (Arc::clone(&site), address.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (site, base) = (Arc::clone(&server), base.clone());
                std::thread::spawn(move || site.answer(&stream.unwrap(), &base));
            }
        });
        (address, site)
    }

    fn answer(&self, stream: &TcpStream, base: &str) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
            let path = line.split(' ').nth(1)?.to_owned();
            let mut headers = BTreeMap::new();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).ok()?;
                let Some((name, value)) = line.trim_end().split_once(": ") else { break };
                headers.insert(name.to_ascii_lowercase(), value.to_owned());
            }
            let (status, extra, page) = self.page(&path, &headers, base);
            self.asked.lock().unwrap().push((path, status));
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: {}\r\ncontent-length: {}\r\n{extra}\r\n",
                page.kind,
                page.body.len()
            );
            let mut stream = stream;
            stream.write_all(head.as_bytes()).ok()?;
            stream.write_all(&page.body).ok()?;
        }
    }

    fn page(
        &self,
        path: &str,
        headers: &BTreeMap<String, String>,
        base: &str,
    ) -> (u16, String, Page) {
        let header = |name: &str| headers.get(name).map_or("", String::as_str);
        let nothing = Page { kind: "text/plain", body: Vec::new() };
        if path.starts_with("/token?") {
            let wanted = "service=loopback&scope=repository%3Atools%2Ftool%3Apull";
            if !path.ends_with(wanted) {
                return (400, String::new(), nothing);
            }
            let body = format!("{{\"token\":\"{TOKEN}\"}}").into_bytes();
            return (200, String::new(), Page { kind: "application/json", body });
        }
        let closed = self.closed.is_some_and(|prefix| path.starts_with(prefix));
        if closed && header("authorization") != format!("Bearer {TOKEN}") {
            let challenge = format!(
                "www-authenticate: Bearer realm=\"{base}/token\",service=\"loopback\",\
                 scope=\"repository:tools/tool:pull\"\r\n"
            );
            return (401, challenge, nothing);
        }
        match self.pages.get(path) {
            Some(page) if path.contains("/manifests/") && !header("accept").contains(page.kind) => {
                (406, String::new(), nothing)
            }
            Some(page) => (200, String::new(), page.clone()),
            None => (404, String::new(), nothing),
        }
    }
}

const VERSION: Version = Version { major: 1, minor: 31, patch: 4 };
const BIN: &str = "/release/v1.31.4/bin/linux/amd64";

pub(crate) fn fetcher(store: &Store) -> Fetcher {
    let settings = FetchSettings {
        attempts: 2,
        backoff: std::time::Duration::from_millis(10),
        ..FetchSettings::default()
    };
    Fetcher::new(Arc::new(store.clone()), Arc::new(Silent), Cancel::default(), settings).unwrap()
}

fn image(folder: &Path) -> Image {
    image_called(REFERENCE, folder)
}

pub(crate) fn image_called(reference: &str, folder: &Path) -> Image {
    let mut entries = Entries::default();
    entries.add("tool", Node::Bytes(vec![9; 70_000].into()), 0o755).unwrap();
    let path = folder.join(format!("layer-{}", Sha256::of(reference).short()));
    let layer = layer::write(&entries, source_date(), &path, &Cancel::default()).unwrap();
    let spec = ImageSpec {
        reference: reference.parse().unwrap(),
        architecture: "amd64",
        entrypoint: vec!["/tool".to_owned()],
        command: Vec::new(),
        user: None,
        environment: Vec::new(),
        labels: BTreeMap::new(),
    };
    oci::build(&spec, layer, source_date()).unwrap()
}

pub(crate) fn bytes(blob: &oci::Blob) -> Vec<u8> {
    let mut bytes = Vec::new();
    blob.copy_to(&mut bytes).unwrap();
    bytes
}

/// An index over the image's manifest and that of another platform, which is not there.
fn index(image: &Image) -> String {
    let entry = |digest: Sha256, size: u64, architecture: &str| {
        format!(
            r#"{{"mediaType":"{}","digest":"sha256:{digest}","size":{size},"platform":{{"architecture":"{architecture}","os":"linux"}}}}"#,
            media_type::MANIFEST
        )
    };
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{},{}]}}"#,
        media_type::INDEX,
        entry(Sha256::of("other"), 5, "arm64"),
        entry(image.manifest.digest, image.manifest.size, "amd64"),
    )
}

/// A registry with the image behind an index.
fn registry(image: &Image) -> Site {
    let mut site = Site::default();
    let at = |kind: &str, name: &str| format!("/v2/tools/tool/{kind}/{name}");
    let digest = |digest: Sha256| format!("sha256:{digest}");
    let index = index(image);
    site.put(at("manifests", "1"), media_type::INDEX, index.clone());
    site.put(at("manifests", &digest(Sha256::of(&index))), media_type::INDEX, index);
    let manifest = &image.manifest;
    site.put(at("manifests", &digest(manifest.digest)), media_type::MANIFEST, bytes(manifest));
    for blob in [&image.config, &image.layers[0]] {
        site.put(at("blobs", &digest(blob.digest)), "application/octet-stream", bytes(blob));
    }
    site
}

const REFERENCE: &str = "registry.example/tools/tool:1";

/// Locks, fetches and archives the image, and reads the archive back.
fn pull(bench: &Bench, address: &str) -> nodekiln_words::Result<Image> {
    let fetcher = fetcher(&bench.store);
    let reference: oci::Reference = REFERENCE.parse()?;
    let registry = Registry::new(&reference.registry, Some(address), &fetcher)?;
    let oci::registry::Resolved { locked, documents } = registry.resolve(&reference, "amd64")?;
    for document in &documents {
        bench.store.put_bytes(&bytes(document))?;
    }
    for (digest, size) in &locked.blobs {
        let mut writer = bench.store.blob_writer()?;
        registry.blob(&reference.repository, *digest, *size, &mut writer)?;
        writer.commit(Some(*digest))?;
    }
    let images = BTreeMap::from([(REFERENCE.to_owned(), locked)]);
    let (output, result) = bench.execute("pull", &[], &BTreeMap::new(), &[], |execution| {
        fetched_images::run(&images, execution)
    });
    result?;
    let path = output.join("images").join(format!("{}.tar", reference.file_name()));
    let mut images = read::archive(&path, "amd64")?;
    Ok(images.remove(0))
}

#[test]
fn an_image_is_locked_by_its_index_and_archived_with_it() {
    let bench = Bench::new();
    let image = image(bench.folder.path());
    let (address, _) = registry(&image).serve();
    let pulled = pull(&bench, &address).unwrap();
    assert_eq!(pulled.target().digest, Sha256::of(index(&image)));
    assert_eq!(pulled.manifest.digest, image.manifest.digest);
    assert_eq!(bytes(&pulled.layers[0]), bytes(&image.layers[0]));
}

#[test]
fn a_registry_that_asks_for_a_token_gets_one() {
    let bench = Bench::new();
    let image = image(bench.folder.path());
    let (address, site) = Site { closed: Some("/v2/"), ..registry(&image) }.serve();
    let pulled = pull(&bench, &address).unwrap();
    assert_eq!(pulled.config.digest, image.config.digest);
    let asked = site.asked.lock().unwrap();
    assert_eq!(asked.iter().filter(|(path, _)| path.starts_with("/token")).count(), 1);
    assert_eq!(asked.iter().filter(|(_, status)| *status == 401).count(), 1, "{asked:?}");
}

#[test]
fn a_layer_with_other_bytes_is_refused_with_both_digests() {
    for closed in [None, Some("/v2/")] {
        let bench = Bench::new();
        let image = image(bench.folder.path());
        let mut site = Site { closed, ..registry(&image) };
        let layer = format!("/v2/tools/tool/blobs/sha256:{}", image.layers[0].digest);
        let evil = vec![1; image.layers[0].size as usize];
        site.put(layer, "application/octet-stream", evil.clone());
        let (address, _) = site.serve();
        let text = format!("{:?}", pull(&bench, &address).unwrap_err());
        assert!(text.contains(&image.layers[0].digest.to_string()), "{text}");
        assert!(text.contains(&Sha256::of(evil).to_string()), "{text}");
    }
}

#[test]
fn a_manifest_with_other_bytes_and_a_missing_image_are_refused() {
    let bench = Bench::new();
    let image = image(bench.folder.path());
    let mut site = registry(&image);
    let manifest = format!("/v2/tools/tool/manifests/sha256:{}", image.manifest.digest);
    site.put(manifest, media_type::MANIFEST, r#"{"schemaVersion":2,"layers":[]}"#);
    let (address, _) = site.serve();
    let text = format!("{:?}", pull(&bench, &address).unwrap_err());
    assert!(text.contains(&format!("expected sha256:{}", image.manifest.digest)), "{text}");

    let (address, _) = Site::default().serve();
    let bench = Bench::new();
    let text = format!("{:?}", pull(&bench, &address).unwrap_err());
    assert!(text.contains("404") && text.contains("check the image's name"), "{text}");
}

#[test]
fn plain_http_to_another_machine_is_refused() {
    let bench = Bench::new();
    let base = Some("http://registry.example");
    let result = Registry::new("registry.example", base, &fetcher(&bench.store)).map(drop);
    assert!(result.unwrap_err().help().unwrap().contains("127.0.0.1"));
}

/// The start of an amd64 executable, and something of its own behind it.
fn program(name: &str) -> Vec<u8> {
    let mut bytes = std::fs::read("/proc/self/exe").unwrap();
    bytes.truncate(4096);
    bytes.extend_from_slice(name.as_bytes());
    bytes
}

/// A release server; `spoiled` is a binary whose bytes are not those of its digest.
fn release(spoiled: Option<&str>) -> Site {
    let mut site = Site::default();
    for name in ["kubeadm", "kubectl", "kubelet"] {
        let good = program(name);
        let digest = Sha256::of(&good).to_string();
        let body = if spoiled == Some(name) { b"evil".to_vec() } else { good };
        site.put(format!("{BIN}/{name}"), "application/octet-stream", body);
        site.put(format!("{BIN}/{name}.sha256"), "text/plain", digest);
    }
    site
}

/// Locks, fetches and places the binaries.
fn install(bench: &Bench, site: Site) -> nodekiln_words::Result<std::path::PathBuf> {
    let (address, _) = site.serve();
    let fetcher = fetcher(&bench.store);
    let base = format!("{address}/release");
    let files = resolve(VERSION, Architecture::Amd64, &base, &BTreeMap::new(), &|url| {
        fetcher.fetch_text(url)
    })?;
    let wanted: Vec<_> = files
        .iter()
        .map(|(name, file)| nodekiln_build::fetch::Wanted {
            what: name.clone(),
            urls: vec![file.url.clone()],
            sha256: file.sha256,
            size: file.size,
        })
        .collect();
    fetcher.fetch(&wanted)?;
    let place = |name: &String| name.strip_prefix("kubernetes/").unwrap().to_owned();
    let files = files.iter().map(|(name, file)| (place(name), file.sha256)).collect();
    let (output, result) = bench.execute("files", &[], &BTreeMap::new(), &[], |execution| {
        kubernetes_files::run(VERSION, &files, execution)
    });
    result.map(|_| output)
}

#[test]
fn binaries_come_from_the_release_server_by_their_digests() {
    let bench = Bench::new();
    let output = install(&bench, release(None)).unwrap();
    for name in ["kubeadm", "kubectl", "kubelet"] {
        assert_eq!(std::fs::read(output.join("bin").join(name)).unwrap(), program(name));
    }
}

#[test]
fn a_binary_with_other_bytes_is_refused_with_both_digests() {
    let bench = Bench::new();
    let text = format!("{:?}", install(&bench, release(Some("kubelet"))).unwrap_err());
    let expected = Sha256::of(program("kubelet")).to_string();
    for part in ["kubelet", &expected, &Sha256::of("evil").to_string()] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn an_error_page_in_a_binarys_place_is_no_executable() {
    let bench = Bench::new();
    let digest = bench.store.put_bytes(b"<html>not found</html>").unwrap();
    let files = BTreeMap::from([("bin/kubelet".to_owned(), digest)]);
    let (_, result) = bench.execute("files", &[], &BTreeMap::new(), &[], |execution| {
        kubernetes_files::run(VERSION, &files, execution)
    });
    assert!(result.unwrap_err().to_string().contains("bin/kubelet is no executable"));
}

#[test]
fn a_release_without_digests_is_refused() {
    let bench = Bench::new();
    let (address, site) = Site::default().serve();
    let fetcher = fetcher(&bench.store);
    let base = format!("{address}/release");
    let result =
        resolve_image_archives(VERSION, Architecture::Amd64, &base, &|url| fetcher.fetch_text(url));
    assert!(result.unwrap_err().to_string().contains("kube-apiserver.tar.sha256"));
    assert_eq!(site.asked.lock().unwrap()[0].0, format!("{BIN}/kube-apiserver.tar.sha256"));
}
