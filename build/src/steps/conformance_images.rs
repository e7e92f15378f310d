//! Makes the images that the specs of node conformance run, from programs compiled with the suite and from
//! programs of Debian packages. Each that is not what its tag means upstream says so in a label.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nodekiln_words::{Failure, Result, ResultExt as _};

use super::control_plane_images::{STAND_IN, TITLE, layer_path};
use super::uses::{ARCHITECTURE, output_with, write_archives};
use crate::execution::Execution;
use crate::kubernetes::programs::Programs;
use crate::layer::Root;
use crate::oci::layer::{self, Entries, Node};
use crate::oci::{self, ImageSpec, Reference};

/// Packages of the tree from which programs go into the images.
pub const PACKAGES: [&str; 6] =
    ["apache2-bin", "busybox-static", "curl", "dash", "netcat-openbsd", "nginx"];

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Users of the images, as BusyBox's own image has them.
const PASSWD: &str =
    "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";
/// nginx in the foreground with nothing but a page.
const NGINX: &str = "user root root;\ndaemon off;\nworker_processes 1;\nerror_log stderr;\npid /run/nginx.pid;\n\
    events {}\nhttp {\n  access_log off;\n  server {\n    listen 80;\n    root /usr/share/nginx/html;\n  }\n}\n";
/// Apache's server, likewise.
const HTTPD: &str = "ServerRoot /usr/lib/apache2\nServerName localhost\nPidFile /run/httpd.pid\n\
    DefaultRuntimeDir /run\nListen 80\nUser nobody\nGroup nogroup\nErrorLog /dev/stderr\n\
    LoadModule mpm_event_module modules/mod_mpm_event.so\n\
    LoadModule authz_core_module modules/mod_authz_core.so\nDocumentRoot /usr/share/nginx/html\n";
const PAGE: &str = "<html><body><h1>It works!</h1></body></html>\n";

/// An image before its layer is written.
struct Draft {
    spec: ImageSpec,
    entries: Entries,
}

/// Where programs come from.
struct Sources<'a> {
    /// Output of the suite's node.
    programs: PathBuf,
    /// A tree of packages.
    tools: PathBuf,
    /// What its BusyBox can do.
    applets: &'a [String],
}

/// Writes one archive for each of `images`.
///
/// Fact: `images.stand-ins`, a JSON object from image to what it is.
///
/// # Errors
/// When nothing is known to make an image from, or a program or library is missing from the used nodes.
pub fn run(images: &[String], execution: &Execution<'_>) -> Result<BTreeMap<String, String>> {
    let programs = output_with(execution, "bin/agnhost")?.join("bin");
    let tools = output_with(execution, "bin/busybox")?;
    let applets = applets(&tools, execution)?;
    let sources = Sources { programs, tools, applets: &applets };
    let task = execution.progress.start("make images", Some(images.len() as u64), "images");
    let made = make(images, &sources, execution);
    match made {
        Ok(stand_ins) => {
            execution.progress.finish(task, &format!("{} images", images.len()));
            let stand_ins = serde_json::to_string(&stand_ins).or_io(|| "write JSON".to_owned())?;
            Ok(BTreeMap::from([("images.stand-ins".to_owned(), stand_ins)]))
        }
        Err(failure) => {
            execution.progress.fail(task);
            Err(failure)
        }
    }
}

fn make(
    images: &[String],
    sources: &Sources<'_>,
    execution: &Execution<'_>,
) -> Result<BTreeMap<String, String>> {
    let mut stand_ins = BTreeMap::new();
    for name in images {
        let reference: Reference = name.parse()?;
        let draft = draft(&reference, sources)
            .map_err(|failure| failure.context(format!("image {reference}")))?;
        if let Some(what) = draft.spec.labels.get(STAND_IN) {
            stand_ins.insert(name.clone(), what.clone());
        }
        let path = layer_path(execution, 0);
        let layer = layer::write(&draft.entries, execution.source_date, &path, execution.cancel)?;
        let image = oci::build(&draft.spec, layer, execution.source_date)?;
        write_archives(&[image], execution)?;
        fs_err::remove_file(&path).or_io(|| "removing a layer".to_owned())?;
    }
    Ok(stand_ins)
}

fn draft(reference: &Reference, sources: &Sources<'_>) -> Result<Draft> {
    match reference.short_name() {
        "agnhost" => agnhost(reference, sources),
        "busybox" => {
            let (entries, command) = (busybox(sources)?, ["sh"]);
            Ok(Draft { spec: spec(reference, &[], &command, "Debian's busybox-static"), entries })
        }
        "httpd" => httpd(reference, sources),
        "nginx" => nginx(reference, sources),
        "nonewprivs" => nonewprivs(reference, sources),
        "nonroot" => {
            let mut spec = spec(reference, &[], &["sh"], "Debian's busybox-static as user 1234");
            spec.user = Some("1234".to_owned());
            Ok(Draft { spec, entries: busybox(sources)? })
        }
        "pause" => {
            let mut entries = Entries::default();
            entries.add("pause", Node::File(sources.programs.join("pause")), 0o755)?;
            let what = "compiled from build/pause/linux/pause.c of the Kubernetes source";
            let mut spec = spec(reference, &["/pause"], &[], what);
            spec.environment.clear();
            Ok(Draft { spec, entries })
        }
        _ => Err(Failure::input("nothing to make it from is known")),
    }
}

fn spec(reference: &Reference, entrypoint: &[&str], command: &[&str], what: &str) -> ImageSpec {
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let tag = reference.tag.as_deref().unwrap_or_default();
    ImageSpec {
        reference: reference.clone(),
        architecture: ARCHITECTURE,
        entrypoint: owned(entrypoint),
        command: owned(command),
        user: None,
        environment: vec![PATH.to_owned()],
        labels: BTreeMap::from([
            (TITLE.to_owned(), reference.short_name().to_owned()),
            (STAND_IN.to_owned(), format!("{what}, under upstream's tag {tag}")),
        ]),
    }
}

fn text(entries: &mut Entries, path: &str, text: &str) -> Result<()> {
    entries.add(path, Node::Bytes(text.as_bytes().into()), 0o644)
}

/// A system of BusyBox, with folders that everybody may write to where specs expect them.
fn busybox(sources: &Sources<'_>) -> Result<Entries> {
    let mut entries = Entries::default();
    Programs::new(&sources.tools, &mut entries)?.add("/bin/busybox", "bin/busybox")?;
    for applet in sources.applets {
        entries.add(&format!("bin/{applet}"), Node::Link("busybox".to_owned()), 0o777)?;
    }
    for (path, mode) in
        [("tmp", 0o1777), ("var/tmp", 0o1777), ("root", 0o700), ("home", 0o755), ("run", 0o755)]
    {
        entries.add(path, Node::Directory, mode)?;
    }
    text(&mut entries, "etc/passwd", PASSWD)?;
    text(&mut entries, "etc/group", GROUP)?;
    Ok(entries)
}

fn agnhost(reference: &Reference, sources: &Sources<'_>) -> Result<Draft> {
    let mut entries = busybox(sources)?;
    entries.add("agnhost", Node::File(sources.programs.join("agnhost")), 0o755)?;
    entries.add("agnhost-2", Node::Link("agnhost".to_owned()), 0o777)?;
    entries.add("uploads", Node::Directory, 0o755)?;
    let mut programs = Programs::new(&sources.tools, &mut entries)?;
    programs.add("/usr/bin/curl", "usr/bin/curl")?;
    programs.add("/bin/nc.openbsd", "bin/nc")?;
    // BusyBox's own shell would take its own `nc` before any of the path.
    programs.add("/bin/dash", "bin/sh")?;
    let what = "test/images/agnhost of the Kubernetes source, with Debian's busybox, dash, curl and netcat";
    Ok(Draft { spec: spec(reference, &["/agnhost"], &["pause"], what), entries })
}

fn nonewprivs(reference: &Reference, sources: &Sources<'_>) -> Result<Draft> {
    let mut entries = busybox(sources)?;
    let program = Node::File(sources.programs.join("nnp"));
    entries.add("usr/local/bin/nnp", program, 0o6755)?; // what `chmod +s` makes of it
    let what = "test/images/nonewprivs of the Kubernetes source, with Debian's busybox";
    Ok(Draft { spec: spec(reference, &[], &["nnp"], what), entries })
}

fn nginx(reference: &Reference, sources: &Sources<'_>) -> Result<Draft> {
    let mut entries = busybox(sources)?;
    Programs::new(&sources.tools, &mut entries)?.add("/usr/sbin/nginx", "usr/sbin/nginx")?;
    text(&mut entries, "etc/nginx/nginx.conf", NGINX)?;
    text(&mut entries, "usr/share/nginx/html/index.html", PAGE)?;
    for folder in ["var/lib/nginx", "var/log/nginx"] {
        entries.add(folder, Node::Directory, 0o755)?;
    }
    Ok(Draft { spec: spec(reference, &[], &["/usr/sbin/nginx"], "Debian's nginx"), entries })
}

fn httpd(reference: &Reference, sources: &Sources<'_>) -> Result<Draft> {
    let mut entries = busybox(sources)?;
    let mut programs = Programs::new(&sources.tools, &mut entries)?;
    programs.add("/usr/sbin/apache2", "usr/sbin/apache2")?;
    for module in ["mod_mpm_event.so", "mod_authz_core.so"] {
        let path = format!("/usr/lib/apache2/modules/{module}");
        programs.add(&path, &path)?;
    }
    text(&mut entries, "etc/httpd.conf", HTTPD)?;
    text(&mut entries, "usr/share/nginx/html/index.html", PAGE)?;
    let command = ["/usr/sbin/apache2", "-D", "FOREGROUND", "-f", "/etc/httpd.conf"];
    Ok(Draft { spec: spec(reference, &[], &command, "Debian's apache2"), entries })
}

/// What the tree's BusyBox can do, but for its own name.
fn applets(tools: &Path, execution: &Execution<'_>) -> Result<Vec<String>> {
    let scratch = execution.scratch.join("tools");
    fs_err::create_dir_all(&scratch).or_io(|| "making scratch folders".to_owned())?;
    let root = Root::assemble(&[tools.to_owned()], &scratch)?;
    let argv = ["/bin/busybox", "--list"];
    let command = execution.command("ask BusyBox what it can do", &root, argv);
    let output = execution.run(&command)?;
    drop(root);
    fs_err::remove_dir_all(&scratch).or_io(|| "removing scratch folders".to_owned())?;
    let output = String::from_utf8_lossy(&output).into_owned();
    let applets = output.lines().map(str::trim).filter(|line| !matches!(*line, "" | "busybox"));
    let applets: Vec<String> = applets.map(str::to_owned).collect();
    if !applets.iter().any(|applet| applet == "sh") {
        return Err(Failure::io("the tree's BusyBox has no shell"));
    }
    Ok(applets)
}
