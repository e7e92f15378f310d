use super::*;
use nodekiln_kit::{Draft, File, Image, Manifest, Origin, SCHEMA, Source};
use nodekiln_words::SourceDate;

fn kit(folder: &Path) -> PathBuf {
    let specs = ["[k8s.io] Pods a [NodeConformance]", "[k8s.io] Pods b [Serial] [NodeConformance]"];
    let suite = folder.join("suite");
    fs_err::write(&suite, "suite").unwrap();
    let manifest = Manifest {
        schema: SCHEMA.to_owned(),
        kubernetes: "1.20.2".parse().unwrap(),
        origin: Origin::Source,
        suite: "bin/e2e_node.test".to_owned(),
        files: BTreeMap::<String, File>::new(),
        images: BTreeMap::<String, Image>::new(),
        repositories: BTreeMap::new(),
        specs: specs.map(str::to_owned).into(),
    };
    let files =
        BTreeMap::from([("bin/e2e_node.test".to_owned(), Source { path: suite, program: true })]);
    let path = folder.join("kit");
    let mut file = fs_err::File::create(&path).unwrap();
    let date = SourceDate::from_unix(1_700_000_000).unwrap();
    Draft { manifest, files }.write(date, &mut file, &Cancel::default()).unwrap();
    path
}

fn plan(kit: PathBuf, kubernetes: &str, out: &Path) -> Result<Plan> {
    plan_of(kit, kubernetes, 1, out)
}

fn plan_of(kit: PathBuf, kubernetes: &str, parallel: u32, out: &Path) -> Result<Plan> {
    let asked = Asked { kit, focus: None, shard: None, parallel, resume: false };
    let expect =
        Expectations { kubernetes: Some(kubernetes.parse().unwrap()), ..Expectations::default() };
    Choice::of(&asked, &expect, &Cancel::default())?.on(Sha256::of("image"), out)
}

#[test]
fn a_kit_of_another_minor_version_is_refused_before_a_boot() {
    let folder = tempfile::tempdir().unwrap();
    let kit = kit(folder.path());
    assert!(plan(kit.clone(), "1.20.15", folder.path()).is_ok());
    let failure = plan(kit, "1.21.2", folder.path()).unwrap_err();
    assert!(failure.to_string().contains("1.20.2") && failure.help().is_some(), "{failure}");
}

#[test]
fn a_kit_without_ginkgos_program_runs_one_spec_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let kit = kit(folder.path());
    let failure = plan_of(kit, "1.20.2", 2, folder.path()).unwrap_err();
    assert!(failure.to_string().contains("bin/ginkgo") && failure.help().is_some(), "{failure}");
}

#[test]
fn a_damaged_kit_is_refused_before_a_boot() {
    let folder = tempfile::tempdir().unwrap();
    let kit = kit(folder.path());
    let mut bytes = fs_err::read(&kit).unwrap();
    let at = bytes.windows(5).rposition(|window| window == b"suite").unwrap();
    bytes[at] = b'S';
    fs_err::write(&kit, bytes).unwrap();
    assert!(plan(kit, "1.20.2", folder.path()).is_err());
}

#[test]
fn until_a_spec_has_run_it_has_not_passed() {
    let folder = tempfile::tempdir().unwrap();
    let found = plan(kit(folder.path()), "1.20.2", folder.path()).unwrap().nothing_yet();
    assert_eq!(found.not_run(), ["[k8s.io] Pods a [NodeConformance]"]);
    assert_eq!(found.skipped(), ["[k8s.io] Pods b [Serial] [NodeConformance]"]);
    assert!(found.passed().is_empty() && found.failed().is_empty());
}
