//! containerd's store of a sound tree, and what may become of it.

use nodekiln_bolt::{Bucket, Item};
use nodekiln_recipes::kubernetes_images::{Listing, default_repository, listing};
use nodekiln_words::Sha256;

use crate::at_rest::Examined;
use crate::at_rest::corpus::Mutation;
use crate::tree::Tree;

const RECORDS: &str = "/var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db";
const BLOBS: &str = "/var/lib/containerd/io.containerd.content.v1.content/blobs/sha256";
const CONFIG: &str = "/etc/containerd/config.toml";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const PAUSE: &str = "k8s.gcr.io/pause:3.2";
const PROXY: &str = "k8s.gcr.io/kube-proxy:v1.20.2";

/// Empties the store, fills it with what kubeadm of the image's version asks for, and claims that; a tag that is not
/// certain is `any`. containerd's sandbox is kubeadm's.
pub(in crate::at_rest) fn fill(examined: &mut Examined) {
    examined.tree.remove("/var/lib/containerd");
    examined.expect.images.clear();
    let version = examined.facts.kubernetes.unwrap();
    let Listing { mut names, open } = listing(version, default_repository(version)).unwrap();
    names.extend(open.iter().map(|name| format!("{name}:any")));
    for name in names {
        let digest = store_image(&mut examined.tree, &name, &name);
        let config = examined.tree.text(CONFIG).unwrap().unwrap_or_default();
        if name.contains("/pause:") {
            let lines = config.lines().map(|line| match line.starts_with("sandbox_image") {
                true => format!("sandbox_image = \"{name}\"\n"),
                false => format!("{line}\n"),
            });
            examined.tree.write(CONFIG, 0o644, lines.collect::<String>());
        }
        examined.expect.images.insert(name, digest);
    }
}

/// Puts an image of one layer with this content into the store; the digest of its manifest.
pub(super) fn store_image(tree: &mut Tree, name: &str, content: &str) -> Sha256 {
    let (manifest, text) = manifest(tree, content);
    name_it(tree, name, MANIFEST, &text);
    manifest
}

/// Puts an index under a name: of a platform whose manifest is there, and of one whose is not.
pub(super) fn store_index(tree: &mut Tree, name: &str) -> Sha256 {
    let (digest, text) = manifest(tree, name);
    let one = |digest: &str, size: usize| {
        format!(r#"{{"mediaType":"{MANIFEST}","digest":"sha256:{digest}","size":{size}}}"#)
    };
    let list = [one(&digest.to_string(), text.len()), one(&Sha256::of("elsewhere").to_string(), 9)];
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, list.join(","));
    blob(tree, &index);
    name_it(tree, name, INDEX, &index);
    Sha256::of(&index)
}

/// Takes the record of an image away.
pub(super) fn forget(examined: &mut Examined, name: &str) {
    change(&mut examined.tree, |records| {
        at(records, &["v1", "k8s.io", "images"]).entries.remove(name.as_bytes());
    });
}

fn manifest(tree: &mut Tree, content: &str) -> (Sha256, String) {
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","author":"{content}","config":{{"Env":[]}}}}"#
    );
    let parts = [config.as_str(), content].map(|bytes| {
        blob(tree, bytes);
        let media_type = "application/octet-stream";
        format!(
            r#"{{"mediaType":"{media_type}","digest":"sha256:{}","size":{}}}"#,
            Sha256::of(bytes),
            bytes.len()
        )
    });
    let [config, layer] = parts;
    let text = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}]}}"#);
    blob(tree, &text);
    (Sha256::of(&text), text)
}

/// Puts a blob into the store, with its record.
fn blob(tree: &mut Tree, bytes: &str) {
    let digest = Sha256::of(bytes);
    tree.write(&format!("{BLOBS}/{digest}"), 0o444, bytes);
    change(tree, |records| {
        let digest = format!("sha256:{digest}");
        at(records, &["v1", "k8s.io", "content", "blob", &digest]).put("size", size(bytes.len()));
    });
}

fn name_it(tree: &mut Tree, name: &str, media_type: &str, document: &str) {
    change(tree, |records| {
        let target = at(records, &["v1", "k8s.io", "images", name, "target"]);
        target.put("digest", format!("sha256:{}", Sha256::of(document)));
        target.put("mediatype", media_type);
        target.put("size", size(document.len()));
    });
}

/// As Go writes a number that is not negative.
fn size(length: usize) -> Vec<u8> {
    let (mut rest, mut bytes) = (length * 2, Vec::new());
    while rest >= 0x80 {
        bytes.push((rest & 0x7F) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

fn change(tree: &mut Tree, change: impl FnOnce(&mut Bucket)) {
    let mut records = match tree.read(RECORDS).unwrap() {
        Some(bytes) => nodekiln_bolt::read(&bytes).unwrap(),
        None => Bucket::default(),
    };
    change(&mut records);
    tree.write(RECORDS, 0o644, nodekiln_bolt::write(&records).unwrap());
}

/// The bucket at the end of `path`, made where it is missing.
fn at<'a>(root: &'a mut Bucket, path: &[&str]) -> &'a mut Bucket {
    path.iter().fold(root, |bucket, key| {
        let entry = bucket.entries.entry(key.as_bytes().to_vec());
        match entry.or_insert(Item::Bucket(Bucket::default())) {
            Item::Bucket(bucket) => bucket,
            Item::Value(_) => panic!("{key} is a value"),
        }
    })
}

/// The blob of the one layer of kube-proxy.
fn layer() -> String {
    format!("{BLOBS}/{}", Sha256::of(PROXY))
}

/// Has the name of kube-proxy's image lead to this document in place of its manifest.
fn lead_to(examined: &mut Examined, media_type: &str, document: &str) {
    blob(&mut examined.tree, document);
    name_it(&mut examined.tree, PROXY, media_type, document);
    examined.expect.images.insert(PROXY.to_owned(), Sha256::of(document));
}

pub(in crate::at_rest) const MUTATIONS: &[Mutation] = &[
    Mutation::new(
        "kube-proxy's image has no record",
        &["images-listed", "images-claimed"],
        "no k8s.gcr.io/kube-proxy:v1.20.2",
        |image| forget(image, PROXY),
    ),
    Mutation::new("a layer is gone", &["images-listed"], "is not there", |image| {
        image.tree.remove(&layer());
    }),
    Mutation::new("a layer is cut off", &["images-listed"], "has 3 bytes, not 29", |image| {
        image.tree.write(&layer(), 0o444, "cut");
    }),
    Mutation::new(
        "a manifest is another of its length",
        &["images-listed"],
        "other bytes",
        |image| {
            let (_, text) = manifest(&mut image.tree.clone(), PROXY);
            let path = format!("{BLOBS}/{}", Sha256::of(&text));
            image.tree.write(&path, 0o444, text.replace("layers", "Layers"));
        },
    ),
    Mutation::new("a layer has no record", &["images-listed"], "no record of the blob", |image| {
        change(&mut image.tree, |records| {
            let digest = format!("sha256:{}", Sha256::of(PROXY));
            at(records, &["v1", "k8s.io", "content", "blob"]).entries.remove(digest.as_bytes());
        });
    }),
    Mutation::new("an image leads to no manifest", &["images-listed"], "is no manifest", |image| {
        lead_to(image, MANIFEST, "no JSON");
    }),
    Mutation::new(
        "a manifest has no configuration",
        &["images-listed"],
        "no configuration",
        |image| {
            lead_to(image, MANIFEST, "{}");
        },
    ),
    Mutation::new(
        "an index has no manifest that is there",
        &["images-listed"],
        "no manifest of",
        |image| {
            lead_to(image, INDEX, r#"{"manifests":[]}"#);
        },
    ),
    Mutation::new(
        "an image is there that nobody asked for",
        &["images-listed"],
        "r.example/left:1",
        |image| {
            store_image(&mut image.tree, "r.example/left:1", "left");
        },
    ),
    Mutation::new(
        "a tag was moved to another image",
        &["images-claimed"],
        ", not sha256:",
        |image| {
            image.expect.images.insert(PROXY.to_owned(), Sha256::of("another"));
        },
    ),
    Mutation::new(
        "a claimed image of another registry is cut off",
        &["images-claimed"],
        "is not there",
        |image| {
            let digest = store_image(&mut image.tree, "r.example/agent:1", "agent");
            image.expect.images.insert("r.example/agent:1".to_owned(), digest);
            image.tree.remove(&format!("{BLOBS}/{}", Sha256::of("agent")));
        },
    ),
    Mutation::new(
        "the records are damaged",
        &["images-listed", "images-claimed", "sandbox-image"],
        "meta.db: offset",
        |image| {
            let mut bytes = image.tree.read(RECORDS).unwrap().unwrap();
            bytes[20] ^= 1;
            image.tree.write(RECORDS, 0o644, bytes);
        },
    ),
    Mutation::new(
        "nothing is preloaded",
        &["images-listed", "images-claimed", "sandbox-image"],
        "nothing is preloaded",
        |image| image.tree.remove("/var/lib/containerd"),
    ),
    Mutation::new(
        "containerd names another pause",
        &["sandbox-image"],
        "kubeadm's is k8s.gcr.io/pause:3.2",
        |image| {
            image.tree.replace(CONFIG, "pause:3.2", "pause:3.9");
        },
    )
    .incident("sandbox image not preloaded"),
    Mutation::new(
        "the sandbox image stands in the section of containerd 2",
        &["containerd-config", "sandbox-image"],
        "/etc/containerd/config.toml",
        |image| {
            let (old, new) = (
                "[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image",
                "[plugins.\"io.containerd.cri.v1.images\".pinned_images]\nsandbox",
            );
            image.tree.replace(CONFIG, old, new);
        },
    ),
    Mutation::new(
        "pause has no record",
        &["images-listed", "images-claimed", "sandbox-image"],
        "has no k8s.gcr.io/pause:3.2",
        |image| forget(image, PAUSE),
    ),
];
