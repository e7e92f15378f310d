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

#[test]
fn a_spec_that_failed_has_one_more_attempt_and_both_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut kept = Kept::open(folder.path(), Sha256::of("i"), Sha256::of("k"), false).unwrap();
    let mut found = Conformance::default();
    let mut results = Results { kept: &mut kept, found: &mut found, firsts: BTreeMap::new() };
    let failed = |said: &str| Spec::once(Outcome::Failed(said.into()), 1.0);
    let passed = || Spec::once(Outcome::Passed, 1.0);
    let named = |specs: [(&str, Spec); 2]| specs.map(|(name, spec)| (name.to_owned(), spec)).into();
    results.add(named([("a", failed("slow")), ("b", passed())])).unwrap_or_else(|_| panic!());
    assert_eq!(failed_once(results.found), [("a".to_owned(), "slow".to_owned())].into());

    results.firsts = failed_once(results.found);
    results.add(named([("a", failed("slow again")), ("b", passed())])).unwrap_or_else(|_| panic!());
    assert!(failed_once(results.found).is_empty(), "two attempts are enough");
    let again = Kept::open(folder.path(), Sha256::of("i"), Sha256::of("k"), true).unwrap();
    let spec = &again.specs()["a"];
    assert_eq!(spec.outcome, Outcome::Failed("slow again".into()));
    assert_eq!(spec.first.as_deref(), Some("slow"), "it is kept on disk too");

    let third = [("a".to_owned(), passed())].into();
    results.add(third).unwrap_or_else(|_| panic!());
    assert_eq!((found.passed_again(), found.failed().len()), (vec!["a"], 0));
}
