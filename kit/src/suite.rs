//! How `e2e_node.test` is started, by minor version of Kubernetes, as data.
//!
//! pflag parses the flags, so a bare program wants two dashes: `--ginkgo.focus`.

use std::ops::RangeInclusive;

use nodekiln_words::{Class, Failure, Result};

/// The minor versions whose flags are known here.
pub const MINORS: RangeInclusive<u32> = 20..=36;

/// Where containerd listens in every image that nodekiln builds, and by default everywhere.
pub const CONTAINERD: &str = "unix:///run/containerd/containerd.sock";

/// When a flag is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Whenever the suite is started.
    Always,
    /// When its specs are listed and none is run.
    List,
    /// When specs are run.
    Run,
}

/// A flag of the suite.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// First minor version that has it.
    pub from: u32,
    /// Last minor version that has it, as far as is known.
    pub to: u32,
    /// When it is given.
    pub when: When,
    /// The flag.
    pub text: &'static str,
    /// Why it is given.
    pub why: &'static str,
    /// Where the version comes from.
    pub source: &'static str,
}

/// Every flag that does not depend on a run.
pub const FLAGS: [Flag; 14] = [
    Flag {
        from: 20,
        to: 24,
        when: When::Always,
        text: "--ginkgo.noColor",
        why: "the log is read by programs",
        source: "Ginkgo 1, vendored up to Kubernetes 1.24",
    },
    Flag {
        from: 25,
        to: 36,
        when: When::Always,
        text: "--ginkgo.no-color",
        why: "the log is read by programs",
        source: "Ginkgo 2 from Kubernetes 1.25 on: flags have hyphens",
    },
    Flag {
        from: 20,
        to: 24,
        when: When::List,
        text: "--ginkgo.dryRun",
        why: "the report names every spec and none is run",
        source: "Ginkgo 1, vendored up to Kubernetes 1.24",
    },
    Flag {
        from: 25,
        to: 36,
        when: When::List,
        text: "--ginkgo.dry-run",
        why: "the report names every spec and none is run",
        source: "Ginkgo 2 from Kubernetes 1.25 on: flags have hyphens",
    },
    Flag {
        from: 20,
        to: 36,
        when: When::Run,
        text: "--ginkgo.v",
        why: "the log says why a spec skips itself, which the report of Ginkgo 1 does not",
        source: "Ginkgo 1 and 2",
    },
    Flag {
        from: 25,
        to: 36,
        when: When::Run,
        text: "--ginkgo.timeout=24h",
        why: "Ginkgo 2 ends a suite after an hour; the run has deadlines of its own",
        source: "Ginkgo 2, migration guide",
    },
    Flag {
        from: 20,
        to: 36,
        when: When::Run,
        text: "--server-start-timeout=15m0s",
        why: "its API server may take longer than two minutes under emulation; the run has deadlines of its own",
        source: "test/e2e_node/services/server.go",
    },
    Flag {
        from: 20,
        to: 36,
        when: When::Run,
        text: "--prepull-images=false",
        why: "there is no network; the images are in the node's store",
        source: "test/e2e_node/e2e_node_suite_test.go: registerNodeFlags",
    },
    Flag {
        from: 20,
        to: 23,
        when: When::Run,
        text: "--container-runtime=remote",
        why: "the default is docker, whose daemon the system validation asks; unknown from 1.24 on",
        source: "test/e2e/framework/test_context.go: dockershim ended with 1.23",
    },
    Flag {
        from: 20,
        to: 36,
        when: When::Run,
        text: "--container-runtime-endpoint=unix:///run/containerd/containerd.sock",
        why: "the default was dockershim's",
        source: "test/e2e/framework/test_context.go",
    },
    Flag {
        from: 20,
        to: 36,
        when: When::Run,
        text: "--image-service-endpoint=unix:///run/containerd/containerd.sock",
        why: "images are containerd's too",
        source: "test/e2e/framework/test_context.go",
    },
    Flag {
        from: 20,
        to: 36,
        when: When::Run,
        text: "--container-runtime-process-name=/usr/bin/containerd",
        why: "the default was dockerd",
        source: "test/e2e/framework/test_context.go",
    },
    Flag {
        from: 20,
        to: 36,
        when: When::Run,
        text: "--k8s-bin-dir=/usr/bin",
        why: "the image's own kubelet is tested",
        source: "test/e2e_node/builder/build.go",
    },
    Flag {
        from: 20,
        to: 36,
        when: When::Run,
        text: "--start-services=true",
        why: "the suite brings etcd and an API server, and starts the kubelet",
        source: "test/e2e_node/services/services.go",
    },
];

/// Ginkgo's own program among a kit's files: it runs the specs of a suite at once, in a process each.
pub const RUNNER: &str = "bin/ginkgo";

/// How Ginkgo's program is told the number of processes; from which minor version on.
const PROCESSES: [(u32, &str); 2] = [
    (20, "--nodes"), // Ginkgo 1, vendored up to Kubernetes 1.24
    (25, "--procs"), // Ginkgo 2, migration guide
];

/// The command by which `runner`, Ginkgo's program, runs `suite`, of minor version `minor` and started by `flags`, in so
/// many processes. Ginkgo's flags are the program's own, and it hands them on.
#[must_use]
pub fn at_once(
    minor: u32,
    processes: u32,
    runner: &str,
    suite: &str,
    flags: Vec<String>,
) -> Vec<String> {
    let spelt = PROCESSES.iter().rfind(|(from, _)| *from <= minor);
    let (_, spelt) = spelt.unwrap_or(&PROCESSES[0]);
    let (ginkgos, suites): (Vec<_>, Vec<_>) =
        flags.into_iter().partition(|flag| flag.starts_with(GINKGOS));
    let ginkgos = ginkgos.iter().map(|flag| flag.replacen(GINKGOS, "--", 1));
    let mut argv = vec![runner.to_owned(), format!("{spelt}={processes}")];
    argv.extend(ginkgos);
    argv.extend([suite.to_owned(), "--".to_owned()]);
    argv.extend(suites);
    argv
}

/// How many reports a suite of minor version `minor` leaves that ran in so many processes: each process writes one with
/// Ginkgo 1, the first one all with Ginkgo 2.
#[must_use]
pub fn reports(minor: u32, processes: u32) -> usize {
    if minor < PROCESSES[1].0 { processes as usize } else { 1 }
}

/// How a suite's flags begin that are Ginkgo's.
const GINKGOS: &str = "--ginkgo.";

/// The flags by which the suite of minor version `minor` tells its specs in a report in `folder`.
///
/// # Errors
/// When the minor version is not known.
pub fn listing(minor: u32, folder: &str) -> Result<Vec<String>> {
    let mut flags = flags(minor, When::List)?;
    flags.push(format!("--report-dir={folder}"));
    Ok(flags)
}

/// The flags by which the suite of minor version `minor` runs the specs that match `pattern` and reports in
/// `folder`; kubelet and containerd share the cgroup driver `driver`.
///
/// # Errors
/// When the minor version is not known.
pub fn running(minor: u32, driver: &str, pattern: &str, folder: &str) -> Result<Vec<String>> {
    let mut flags = flags(minor, When::Run)?;
    flags.push(format!("--kubelet-flags=--cgroup-driver={driver}"));
    flags.push(format!("--ginkgo.focus={pattern}"));
    flags.push(format!("--report-dir={folder}"));
    Ok(flags)
}

fn flags(minor: u32, when: When) -> Result<Vec<String>> {
    if !MINORS.contains(&minor) {
        let text = format!("how the suite of Kubernetes 1.{minor} is started is not known");
        let help = format!("known are 1.{} to 1.{}", MINORS.start(), MINORS.end());
        return Err(Failure::new(Class::Unsupported, text).with_help(help));
    }
    let given = FLAGS.iter().filter(|flag| (flag.from..=flag.to).contains(&minor));
    let given = given.filter(|flag| flag.when == When::Always || flag.when == when);
    Ok(given.map(|flag| flag.text.to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_minor_has_one_spelling_of_each_flag() {
        for minor in MINORS {
            for when in [When::List, When::Run] {
                let flags = flags(minor, when).unwrap();
                let colors = flags.iter().filter(|flag| flag.to_lowercase().contains("color"));
                assert_eq!(colors.count(), 1, "{minor}");
            }
            let listing = listing(minor, "/r").unwrap();
            let dry = listing.iter().filter(|flag| flag.replace('-', "").contains("dry"));
            assert_eq!(dry.count(), 1, "{minor}: {listing:?}");
        }
        assert!(listing(19, "/r").is_err() && listing(37, "/r").is_err());
    }

    #[test]
    fn dockers_successor_is_named_where_docker_is_the_default_and_nowhere_else() {
        let remote = |minor| {
            let flags = running(minor, "systemd", "x", "/r").unwrap();
            flags.contains(&"--container-runtime=remote".to_owned())
        };
        assert!(remote(20) && remote(23) && !remote(24) && !remote(36));
    }

    #[test]
    fn ginkgos_program_takes_its_own_flags_and_hands_the_suite_the_others() {
        for (minor, first, color) in [
            (20, "--nodes=3", "--noColor"),
            (24, "--nodes=3", "--noColor"),
            (25, "--procs=3", "--no-color"),
        ] {
            let flags = running(minor, "systemd", "x", "/r").unwrap();
            let count = flags.len();
            let argv = at_once(minor, 3, "/bin/ginkgo", "/bin/suite", flags);
            assert_eq!(argv.len(), count + 4);
            let end = argv.iter().position(|word| word == "/bin/suite").unwrap();
            assert_eq!(&argv[..2], ["/bin/ginkgo", first]);
            assert!(argv[2..end].iter().any(|flag| flag == color), "{argv:?}");
            assert!(argv[2..end].iter().any(|flag| flag == "--focus=x"), "{argv:?}");
            assert_eq!(argv[end + 1], "--");
            assert_eq!(reports(minor, 3), if minor < 25 { 3 } else { 1 });
            assert!(argv[end + 2..].iter().all(|flag| !flag.contains("ginkgo")), "{argv:?}");
        }
    }

    #[test]
    fn both_endpoints_are_containerds() {
        let endpoints = FLAGS.iter().filter(|flag| flag.text.contains("-endpoint="));
        assert!(endpoints.clone().all(|flag| flag.text.ends_with(CONTAINERD)));
        assert_eq!(endpoints.count(), 2);
    }

    #[test]
    fn every_record_is_filled_in() {
        for flag in FLAGS {
            assert!(
                flag.from <= flag.to && MINORS.contains(&flag.from) && MINORS.contains(&flag.to)
            );
            assert!(flag.text.starts_with("--") && !flag.why.is_empty() && !flag.source.is_empty());
        }
    }
}
