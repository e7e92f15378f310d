//! A rule on the files that kubeadm and the kubelet write on a node: an image has none of them.

use nodekiln_words::Result;

use super::answers::text;
use super::{Applies, Ask, Context, Judge, Rule, Severity, Software, Verdict};
use crate::Tier;
use crate::guest::Output;
use crate::rules::benchmark::{Edition, PACKAGED, edition};

/// Mode in hexadecimal digits, owner, group and path of each file, links followed.
const FILES: Ask = Ask::Standing(
    "for path in /etc/kubernetes/*.conf /etc/kubernetes/manifests/*.yaml /etc/kubernetes/pki/* /etc/kubernetes/pki/etcd/* \
     /var/lib/kubelet/config.yaml /var/lib/kubelet/pki/* /var/lib/etcd; do \
     [ ! -e \"$path\" ] || stat -L -c '%f %u %g %n' \"$path\" || exit; done",
);

pub(super) const RULES: &[Rule] = &[Rule {
    id: "node-files-mode",
    title: "What kubeadm wrote is root's, and keys are for nobody else",
    tier: Tier::Kubeadm,
    severity: Severity::Fatal,
    reads: &[
        "/etc/kubernetes",
        "/var/lib/kubelet/config.yaml",
        "/var/lib/kubelet/pki",
        "/var/lib/etcd",
    ],
    why: "whoever reads a key is what it is for: the administrator, the kubelet, the cluster's authority",
    remedy: "look at the umask of cloud-init's and the kubelet's units, and at what runs after kubeadm; kubeadm writes its files \
             as the benchmark has them",
    source: "CIS Kubernetes benchmark, 1.1.1 to 1.1.21 and 4.1.3 to 4.1.10",
    applies: Applies::with(&[Software::Kubernetes]),
    stops_boot: false,
    judge: Judge::Machine(FILES, modes),
}];

/// What a node has whatever it is for: the kubelet's way to the API server, its settings and its clients' authority.
const OF_EACH_NODE: [&str; 3] =
    ["/etc/kubernetes/kubelet.conf", "/var/lib/kubelet/config.yaml", "/etc/kubernetes/pki/ca.crt"];

/// A file as the node tells of it.
struct File<'a> {
    path: &'a str,
    /// Type and permissions (stat(2), `st_mode`).
    mode: u32,
    owner: &'a str,
    group: &'a str,
}

impl<'a> File<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let mut words = line.splitn(4, ' ');
        let mode = u32::from_str_radix(words.next()?, 16).ok()?;
        Some(Self { mode, owner: words.next()?, group: words.next()?, path: words.next()? })
    }

    fn is_folder(&self) -> bool {
        self.mode & 0o170_000 == 0o040_000
    }

    /// The most that its permissions may be, and what the benchmark's edition asks for besides.
    fn most(&self, edition: Option<&Edition>) -> (u32, u32) {
        const SECRET: u32 = 0o600;
        let advised = |wanted: fn(&Edition) -> u32| edition.map_or(PACKAGED, wanted);
        let name = self.path.rsplit('/').next().unwrap_or_default();
        match self.path {
            "/etc/kubernetes/kubelet.conf" => (PACKAGED, advised(|edition| edition.files)),
            // The others have keys and tokens in them, not the names of their files.
            path if path.starts_with("/etc/kubernetes/") && name.ends_with(".conf") => {
                (SECRET, SECRET)
            }
            "/etc/kubernetes/pki/ca.crt" => (PACKAGED, advised(|edition| edition.authority)),
            "/var/lib/etcd" => (0o700, 0o700),
            _ if self.is_folder() => (0o755, 0o755),
            // The kubelet keeps certificate and key in one file.
            _ if name.ends_with(".key") || name.ends_with(".pem") => (SECRET, SECRET),
            _ if name.ends_with(".crt") || name.ends_with(".pub") => (PACKAGED, PACKAGED),
            _ => (PACKAGED, advised(|edition| edition.files)),
        }
    }
}

fn modes(answer: &Output, context: &Context) -> Result<Verdict> {
    let text = text(answer)?;
    let edition = context.expect.kubernetes.map(edition);
    let (mut wrong, mut stricter) = (Vec::new(), Vec::new());
    let files: Vec<File> = text.lines().filter_map(File::read).collect();
    for path in OF_EACH_NODE {
        if files.iter().all(|file| file.path != path) {
            wrong.push(format!("there is no {path}"));
        }
    }
    for file in &files {
        let (path, mode) = (file.path, file.mode & 0o7777);
        let (most, advised) = file.most(edition);
        // etcd may run as a user of its own.
        if (file.owner, file.group) != ("0", "0") && path != "/var/lib/etcd" {
            wrong.push(format!(
                "{path} is of user {} and group {}, not root's",
                file.owner, file.group
            ));
        }
        if mode & !most != 0 {
            wrong.push(format!("{path} has mode {mode:04o}, more than {most:04o}"));
        } else if mode & !advised != 0 {
            let name = edition.map_or("the benchmark", |edition| edition.name);
            stricter.push(format!(
                "{path} has mode {mode:04o}, as kubeadm writes it; {name} asks for {advised:04o}"
            ));
        }
    }
    if wrong.is_empty() && !stricter.is_empty() {
        return Ok(Verdict::Warn(stricter.join("; ")));
    }
    let keys = files.iter().filter(|file| file.most(edition).0 & 0o077 == 0).count();
    Ok(Verdict::of(
        &wrong,
        format!("{} files are root's, {keys} of them for root alone", files.len()),
    ))
}

#[cfg(test)]
pub(super) use mutations::ANSWERS;

#[cfg(test)]
mod mutations {
    use crate::checks::corpus::{Answer, Mutation};

    pub(in crate::checks) const ANSWERS: &[Answer] = &[Answer::new(
        "node-files-mode",
        "8180 0 0 /etc/kubernetes/admin.conf\n\
         8180 0 0 /etc/kubernetes/kubelet.conf\n\
         8180 0 0 /etc/kubernetes/manifests/etcd.yaml\n\
         81a4 0 0 /etc/kubernetes/pki/ca.crt\n\
         8180 0 0 /etc/kubernetes/pki/ca.key\n\
         41ed 0 0 /etc/kubernetes/pki/etcd\n\
         8180 0 0 /etc/kubernetes/pki/etcd/ca.key\n\
         81a4 0 0 /etc/kubernetes/pki/sa.pub\n\
         81a4 0 0 /var/lib/kubelet/config.yaml\n\
         8180 0 0 /var/lib/kubelet/pki/kubelet-client-current.pem\n\
         41c0 0 0 /var/lib/etcd\n",
        &[
            Mutation::new(
                "all may read the administrator's kubeconfig",
                "admin.conf has mode 0644, more than 0600",
                |guest| {
                    guest.replace(
                        "8180 0 0 /etc/kubernetes/admin.conf",
                        "81a4 0 0 /etc/kubernetes/admin.conf",
                    );
                },
            ),
            Mutation::new(
                "a group may read the authority's key",
                "/etc/kubernetes/pki/ca.key has mode 0640",
                |guest| {
                    guest.replace(
                        "8180 0 0 /etc/kubernetes/pki/ca.key",
                        "81a0 0 0 /etc/kubernetes/pki/ca.key",
                    );
                },
            ),
            Mutation::new(
                "the kubelet's certificate is anybody's",
                "current.pem has mode 0644",
                |guest| {
                    guest.replace("8180 0 0 /var/lib/kubelet/pki", "81a4 0 0 /var/lib/kubelet/pki");
                },
            ),
            Mutation::new("etcd's data may be read", "/var/lib/etcd has mode 0755", |guest| {
                guest.replace("41c0", "41ed");
            }),
            Mutation::new(
                "all may write the kubelet's settings",
                "config.yaml has mode 0666",
                |guest| {
                    guest.replace(
                        "81a4 0 0 /var/lib/kubelet/config",
                        "81b6 0 0 /var/lib/kubelet/config",
                    );
                },
            ),
            Mutation::new("all may write below the authority", "pki/etcd has mode 0777", |guest| {
                guest.replace("41ed", "41ff");
            }),
            Mutation::new(
                "static pods are a user's",
                "etcd.yaml is of user 1000 and group 0",
                |guest| {
                    guest.replace(
                        "8180 0 0 /etc/kubernetes/manifests",
                        "8180 1000 0 /etc/kubernetes/manifests",
                    );
                },
            ),
            Mutation::new(
                "kubeadm wrote no kubeconfig",
                "there is no /etc/kubernetes/kubelet.conf",
                |guest| {
                    guest.replace("8180 0 0 /etc/kubernetes/kubelet.conf\n", "");
                },
            ),
        ],
    )];
}

#[cfg(test)]
mod tests {
    use nodekiln_recipes::recipe::Version;

    use super::*;
    use crate::checks::testing;
    use crate::expect::Expectations;

    #[test]
    fn a_later_edition_asks_for_more_than_kubeadm_does() {
        let version = Version { major: 1, minor: 28, patch: 0 };
        let expect = Expectations { kubernetes: Some(version), ..Expectations::default() };
        let context = testing::context(&expect, Tier::Kubeadm);
        let lines = "8180 0 0 /etc/kubernetes/kubelet.conf\n81a4 0 0 /var/lib/kubelet/config.yaml\n\
                     8180 0 0 /etc/kubernetes/pki/ca.crt\n";
        let answer = Output { stdout: lines.into(), ..Output::default() };
        let verdict = modes(&answer, &context).unwrap();
        assert!(
            matches!(&verdict, Verdict::Warn(seen) if seen.contains("config.yaml has mode 0644") && seen.contains("cis-1.10 asks for 0600")),
            "{verdict:?}"
        );
    }
}
