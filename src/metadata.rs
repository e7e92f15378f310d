//! `nodekiln metadata`: a cloud's services for guests under test, and the media that clouds attach.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use nodekiln_validate::metadata::{
    Cloud, Description, Emulation, Fault, Instance, Journal, Server, journal::Record, media,
    namespace, serve_at,
};
use nodekiln_words::{Cancel, Class, Event, Failure, Result, ResultExt as _, Sha256};
use rustix::process::{Pid, Signal};
use serde::Serialize;
use serde_json::{Value, json};

use crate::Context;
use crate::arguments::ProgressStyle;
use crate::arguments::metadata::{
    Cloud as CloudWord, Instance as InstanceWords, Medium, Metadata, MetadataVerb, Serve,
};
use crate::exit::{self, print, print_error};
use crate::progress::renderer;
use crate::registry;

/// How often a waiting program looks up.
const INTERVAL: Duration = Duration::from_millis(50);
/// How long an interrupted command gets to end by itself.
const GRACE: Duration = Duration::from_secs(3);
/// Names the service's URL to the command.
const VARIABLE: &str = "NODEKILN_METADATA";

/// Serves, or writes a medium.
pub(crate) fn metadata(verb: &Metadata, context: &Context) -> Result<ExitCode> {
    match &verb.verb {
        MetadataVerb::Serve(verb) => serve(verb, context),
        MetadataVerb::Medium(verb) => medium(verb),
    }
}

/// The services, wherever they are.
enum Services {
    Here(Server),
    Apart(Emulation),
}

impl Services {
    fn server(&self) -> &Server {
        match self {
            Self::Here(server) => server,
            Self::Apart(emulation) => emulation.server(),
        }
    }
}

fn serve(verb: &Serve, context: &Context) -> Result<ExitCode> {
    let instance = instance(&verb.instance)?; // 1. who is told about
    if instance.cloud.services().is_empty() {
        let text = format!("{} has no metadata service", instance.cloud.as_str());
        return Err(Failure::input(text).with_help(
            "it attaches a CD: nodekiln metadata medium --provider vsphere --out FILE",
        ));
    }
    let faults: Vec<Fault> = verb.fault.iter().map(|text| text.parse()).collect::<Result<_>>()?;
    if verb.listen.is_none() && !namespace::privileged() {
        match namespace::own_user_namespace(std::env::args_os().skip(1))? {} // comes back here as root
    }
    let journal = journal(verb, context)?;
    let services = match verb.listen {
        Some(address) => Services::Here(serve_at(address, instance, faults, journal)?),
        None => Services::Apart(Emulation::start(instance, faults, journal)?),
    }; // 2. the services
    announce(verb, &services, context)?;
    let ended = match &verb.command[..] {
        [] => {
            while !context.cancel.is_cancelled() {
                std::thread::sleep(INTERVAL);
            }
            Ok(ExitCode::SUCCESS) // to be interrupted is how it ends
        }
        words => run(words, &services, &context.cancel), // 3. the command
    };
    let server = services.server();
    let written = server.journal().finish();
    if server.journal().is_drained() {
        summary(verb, server, context)?; // 4. what was asked, after the last request
    }
    written?;
    ended
}

/// The instance that the words ask for.
fn instance(words: &InstanceWords) -> Result<Instance> {
    let mut description = match &words.instance {
        Some(path) => Description::parse(&text(path)?)
            .map_err(|failure| failure.context(format!("read {}", path.display())))?,
        None => Description::default(),
    };
    for path in &words.ssh_key {
        let lines = text(path)?;
        let lines = lines.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
        description.ssh_keys.extend(lines.map(str::to_owned));
    }
    let typed = [
        (&words.hostname, &mut description.hostname),
        (&words.mac, &mut description.mac),
        (&words.seed, &mut description.seed),
    ];
    for (typed, field) in typed {
        if typed.is_some() {
            field.clone_from(typed);
        }
    }
    description.clone = words.clone.unwrap_or(description.clone);
    let cloud = match words.provider {
        CloudWord::Aws => Cloud::Aws,
        CloudWord::Azure => Cloud::Azure,
        CloudWord::Gce => Cloud::Gce,
        CloudWord::Openstack => Cloud::OpenStack,
        CloudWord::Vsphere => Cloud::VSphere,
        CloudWord::Nocloud => Cloud::NoCloud,
    };
    let mut instance = Instance::of(cloud, description)?;
    if let Some(provider) = registry::own(provider_of(cloud)) {
        let id = instance.id;
        instance = instance.on(&provider.machine().smbios, id);
    }
    if let Some(path) = &words.user_data {
        let read = || format!("cannot read the user-data {}", path.display());
        instance.user_data = Some(fs_err::read(path).or_fail(Class::Input, read)?);
    }
    Ok(instance)
}

/// The provider whose machines the cloud has.
fn provider_of(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::NoCloud => "qemu",
        Cloud::Aws | Cloud::Azure | Cloud::Gce | Cloud::OpenStack | Cloud::VSphere => {
            cloud.as_str()
        }
    }
}

fn text(path: &Path) -> Result<String> {
    fs_err::read_to_string(path).or_fail(Class::Input, || format!("cannot read {}", path.display()))
}

/// The journal, which tells of each request as it comes.
fn journal(verb: &Serve, context: &Context) -> Result<Journal> {
    let journal = match &verb.log {
        Some(path) => Journal::to_file(path)?,
        None => Journal::default(),
    };
    let style = context.global.progress;
    if verb.json {
        journal.listen(|record| {
            let _ = print(&event("request", record)); // nobody reads: no reason to stop serving
        })?;
    } else if style == ProgressStyle::Json {
        journal.listen(|record| print_error(&event("request", record)))?;
    } else if style != ProgressStyle::Quiet {
        journal.listen(|record| print_error(&format!("{record}\n")))?;
    }
    Ok(journal)
}

/// A record as an object of one line.
fn event(name: &str, record: &Record) -> String {
    let mut value = json!(record);
    if let Some(fields) = value.as_object_mut() {
        fields.insert("event".into(), name.into());
    }
    format!("{value}\n")
}

/// Where the service is to be found.
fn url(server: &Server) -> String {
    let address = server.addresses().first();
    address.map_or_else(String::new, |address| match address {
        SocketAddr::V4(address) if address.port() == 80 => format!("http://{}", address.ip()),
        address => format!("http://{address}"),
    })
}

/// Tells where the services are and how to get there.
fn announce(verb: &Serve, services: &Services, context: &Context) -> Result<()> {
    let server = services.server();
    let instance = server.instance();
    let entrance = match services {
        Services::Here(_) => None,
        Services::Apart(emulation) => Some(emulation.namespace().entrance()),
    };
    if verb.json {
        let smbios: Vec<Value> = instance
            .smbios()
            .into_iter()
            .map(|(table, field, text)| json!({ "type": table, "field": field, "text": text }))
            .collect();
        let told = json!({
            "event": "ready",
            "provider": instance.cloud,
            "url": url(server),
            "addresses": server.addresses(),
            "enter": entrance,
            "instance": {
                "id": instance.instance_id(),
                "hostname": instance.hostname,
                "fqdn": instance.fqdn(),
                "mac": instance.mac.to_string(),
                "address": instance.address,
                "smbios": smbios,
            },
        });
        return print(&format!("{told}\n"));
    }
    let addresses: Vec<String> = server.addresses().iter().map(ToString::to_string).collect();
    let mut text = format!(
        "{}: instance {} ({}) at {}\n",
        instance.cloud.as_str(),
        instance.instance_id(),
        instance.hostname,
        addresses.join(", "),
    );
    if verb.command.is_empty() {
        if let Some(entrance) = entrance {
            text.push_str(&format!("enter its network: {entrance}\n"));
        }
        return print(&format!("{text}stop with Ctrl-C\n"));
    }
    if context.global.progress != ProgressStyle::Quiet {
        print_error(&text); // standard output is the command's
    }
    Ok(())
}

/// Runs the command where the services are.
fn run(words: &[OsString], services: &Services, cancel: &Cancel) -> Result<ExitCode> {
    let url = url(services.server());
    let (program, arguments) = words.split_first().ok_or_else(|| Failure::input("no command"))?;
    let program = Path::new(program);
    let prepared = |mut command: Command| {
        command.args(arguments).env(VARIABLE, url);
        command
    };
    let status = match services {
        Services::Here(_) => watch(prepared(nodekiln_validate::mortal(program)?), ask, cancel),
        Services::Apart(emulation) => {
            let command = prepared(namespace::mortal(program)?);
            emulation.inside(|| watch(command, namespace::ask_to_end, cancel))?
        }
    }?;
    if cancel.is_cancelled() {
        return Err(Failure::interrupted());
    }
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    Ok(code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Asks a program to end.
fn ask(child: &Child) {
    let _ = rustix::process::kill_process(Pid::from_child(child), Signal::TERM); // it may just have ended
}

/// Waits for the command's end. On an interruption it is asked to end, which does no harm where the terminal told
/// it already, and is killed when it does not.
fn watch(mut command: Command, ask: fn(&Child), cancel: &Cancel) -> Result<ExitStatus> {
    let name = command.get_program().to_owned();
    let mut child =
        command.spawn().or_fail(Class::Missing, || format!("cannot start {}", name.display()))?;
    let cannot = || "cannot wait for the command".to_owned();
    let mut interrupted = None;
    loop {
        if let Some(status) = child.try_wait().or_io(cannot)? {
            return Ok(status);
        }
        if cancel.is_cancelled() {
            let since = *interrupted.get_or_insert_with(|| {
                ask(&child);
                Instant::now()
            });
            if since.elapsed() > GRACE {
                child.kill().or_io(cannot)?;
                return child.wait().or_io(cannot);
            }
        }
        std::thread::sleep(INTERVAL);
    }
}

/// Tells what was asked, and which faults nobody met.
fn summary(verb: &Serve, server: &Server, context: &Context) -> Result<()> {
    let observed = server.observed();
    let unused: Vec<String> = server.faults().unused().iter().map(ToString::to_string).collect();
    let counts = server.journal().counts();
    if verb.json {
        let told = json!({
            "event": "end",
            "counts": counts,
            "observed": observed,
            "unused_faults": unused,
        });
        return print(&format!("{told}\n"));
    }
    let progress = renderer(context.global.progress);
    let asked: u64 = counts.values().sum();
    progress.event(Event::Note(format!("{asked} requests, of {} kinds", counts.len())));
    if observed.ready() {
        progress.event(Event::Note("the machine reported itself ready".into()));
    }
    for fault in unused {
        progress.event(Event::Warning(format!("fault `{fault}` struck nothing")));
    }
    Ok(())
}

/// What is told of a medium.
#[derive(Serialize)]
struct Told<'a> {
    file: &'a Path,
    bytes: usize,
    sha256: Sha256,
    label: &'static str,
    file_system: &'static str,
    drive: media::Drive,
}

fn medium(verb: &Medium) -> Result<ExitCode> {
    let instance = instance(&verb.instance)?;
    let medium = media::medium(&instance)?;
    let digest = Sha256::of(&medium.bytes);
    let told = Told {
        file: &verb.out,
        bytes: medium.bytes.len(),
        sha256: digest,
        label: medium.label,
        file_system: medium.file_system,
        drive: medium.drive,
    };
    // Before anything is written: a path need not be text.
    let json = verb.json.then(|| exit::json(&told)).transpose().map_err(|failure| {
        failure.with_help("give --out a name that is UTF-8, or leave --json out")
    })?;
    write(&verb.out, &medium.bytes)?;
    if let Some(json) = json {
        print(&json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let how = match medium.drive {
        media::Drive::Any => "attach it as any disk or CD",
        media::Drive::Cd => "attach it as a CD on IDE, SATA or SCSI",
    };
    print(&format!(
        "{}: {} labelled {}, {} bytes, sha256 {digest}; {how}\n",
        verb.out.display(),
        medium.file_system,
        medium.label,
        medium.bytes.len(),
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a file that is whole or not there.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write as _;
    let cannot = || format!("cannot write {}", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).or_io(cannot)?;
    file.write_all(bytes).or_io(cannot)?;
    // It may hold secrets of user-data, and stays its owner's alone, as temporary files are.
    file.persist(path).map(drop).or_io(cannot)
}
