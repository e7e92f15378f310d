//! RPM's database as RPM itself makes it, from packages made here: what is read of it is what `rpm -qa` prints.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use nodekiln_validate::tree::Tree;
use nodekiln_validate::tree::packages::Packages;

const DATABASE: &str = "/var/lib/rpm/rpmdb.sqlite";
/// Where Debian's RPM would have it otherwise is the home of whoever runs it.
const FOLDER: &str = "/var/lib/rpm";

fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap(); // of the package rpm
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn rpm(root: &Path, arguments: &[&str]) -> String {
    printed(Command::new("rpm").arg("--root").arg(root).args(["--dbpath", FOLDER]).args(arguments))
}

/// Packages of several versions, more than a page of the database holds.
fn built(folder: &Path) -> Vec<String> {
    let mut spec = String::from(
        "Name: runc\nEpoch: 4\nVersion: 1.1.12\nRelease: 4.el9\nSummary: s\nLicense: none\nBuildArch: noarch\n\
         %description\nd\n%files\n",
    );
    for number in 0..60 {
        let epoch = if number % 3 == 0 { format!("Epoch: {number}\n") } else { String::new() };
        let text = "word ".repeat(number * 40);
        writeln!(
            spec,
            "%package -n part-{number}\n{epoch}Version: {number}.2~rc1\nRelease: 1%{{?dist}}\nSummary: s\n\
             %description -n part-{number}\n{text}d\n%files -n part-{number}"
        )
        .unwrap();
    }
    let path = folder.join("made.spec");
    std::fs::write(&path, spec).unwrap();
    let define = |name: &str, value: &Path| format!("{name} {}", value.display());
    printed(
        Command::new("rpmbuild")
            .args(["-bb", "--quiet", "--define", &define("_topdir", folder)])
            .args(["--define", &define("_builddir", folder), "--define", "dist .el9"])
            .arg(&path),
    );
    let made = std::fs::read_dir(folder.join("RPMS/noarch")).unwrap();
    made.map(|entry| entry.unwrap().path().to_string_lossy().into_owned()).collect()
}

fn listed(packages: &Packages) -> Vec<String> {
    let lines = packages.installed.iter().flatten();
    let mut lines: Vec<String> = lines
        .map(|package| format!("{} {} {}", package.name, package.version, package.architecture))
        .collect();
    lines.sort();
    lines
}

#[test]
fn what_rpm_installed_is_read_as_rpm_lists_it() {
    let folder = tempfile::tempdir().unwrap();
    let packages = built(folder.path());
    let root = folder.path().join("root");
    std::fs::create_dir(&root).unwrap();
    let files: Vec<&str> = packages.iter().map(String::as_str).collect();
    rpm(&root, &[&["-i", "--justdb", "--nodeps", "--ignoreos"], &files[..]].concat());
    rpm(&root, &["-e", "--justdb", "--nodeps", "part-7", "part-9"]);
    let format = "%{NAME} %|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE} %{ARCH}\n";
    let list = rpm(&root, &["-qa", "--queryformat", format]);
    let mut expected: Vec<&str> = list.lines().collect();
    expected.sort_unstable();

    let bytes = std::fs::read(root.join(&DATABASE[1..])).unwrap();
    let mut tree = Tree::default();
    tree.write(DATABASE, 0o644, bytes);
    let packages = Packages::of(&tree).unwrap();
    assert_eq!(listed(&packages), expected);
    assert_eq!(expected.len(), 59);
    assert_eq!(packages.named("runc").unwrap().version, "4:1.1.12-4.el9");
    assert!(packages.named("part-7").is_none());
}
