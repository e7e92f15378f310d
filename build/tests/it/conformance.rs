//! Images for node conformance from programs and packages.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nodekiln_build::oci::read;
use nodekiln_build::sandbox::{Sandbox, SandboxCommand};
use nodekiln_build::steps::conformance_images::{self, PACKAGES};
use nodekiln_kit::images;
use nodekiln_words::Cancel;

use crate::control_plane::unpack;
use crate::debian;
use crate::node::{Bench, source_date};

/// What the packages need, as their dependencies had it in Debian 12.
const LIBRARIES: [&str; 38] = [
    "libapr1",
    "libaprutil1",
    "libbrotli1",
    "libbsd0",
    "libc6",
    "libcom-err2",
    "libcrypt1",
    "libcurl4",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "libgmp10",
    "libgnutls30",
    "libgssapi-krb5-2",
    "libhogweed6",
    "libidn2-0",
    "libk5crypto3",
    "libkeyutils1",
    "libkrb5-3",
    "libkrb5support0",
    "libldap-2.5-0",
    "libmd0",
    "libnettle8",
    "libnghttp2-14",
    "libp11-kit0",
    "libpcre2-8-0",
    "libpsl5",
    "librtmp1",
    "libsasl2-2",
    "libssh2-1",
    "libssl3",
    "libtasn1-6",
    "libunistring2",
    "libuuid1",
    "libzstd1",
    "zlib1g",
    "libdb5.3",
    "libselinux1",
];

fn says(bench: &Bench, tree: &Path, argv: &[&str]) -> String {
    let log = bench.path("says-log");
    let command = SandboxCommand::new("the test", tree, argv, &log, source_date());
    let launcher = env!("CARGO_BIN_EXE_nodekiln-sandbox").into();
    let output = Sandbox { launcher, clock: None }.run(&command, &Cancel::default());
    let output = output.unwrap_or_else(|failure| panic!("{failure:?}"));
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

fn archives(output: &Path) -> BTreeMap<String, PathBuf> {
    let entries = std::fs::read_dir(output.join("images")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .map(|path| (read::archive(&path, "amd64").unwrap()[0].reference.to_string(), path))
        .collect()
}

#[test]
fn images_have_what_the_specs_call_and_say_what_they_are() {
    let bench = Bench::new();
    let programs = bench.stored("programs", |output| {
        for name in ["agnhost", "nnp", "pause"] {
            let path = output.join("bin").join(name);
            std::fs::create_dir_all(output.join("bin")).unwrap();
            std::fs::write(&path, format!("#!/bin/sh\necho {name}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    });
    let tools = bench.stored("tools", |output| {
        let packages: Vec<&str> = PACKAGES.iter().chain(&LIBRARIES).copied().collect();
        debian::unpack(&packages, output);
    });
    let mut wanted: Vec<String> = images::of(20).iter().map(images::Needed::reference).collect();
    wanted.sort();
    let make = |name: &str| {
        bench.execute(name, &[], &BTreeMap::new(), &[&programs, &tools], |execution| {
            conformance_images::run(&wanted, execution)
        })
    };
    let (output, facts) = make("one");
    let facts = facts.unwrap_or_else(|failure| panic!("{failure:?}"));
    let made = archives(&output);
    assert!(made.keys().eq(wanted.iter()), "{made:?}");
    for (name, other) in archives(&make("two").0) {
        assert!(std::fs::read(&made[&name]).unwrap() == std::fs::read(other).unwrap(), "{name}");
    }
    let stand_ins: BTreeMap<String, String> =
        serde_json::from_str(&facts["images.stand-ins"]).unwrap();
    assert_eq!(stand_ins.len(), wanted.len(), "none of them is upstream's");

    let tree = |short: &str| {
        let name = wanted.iter().find(|name| name.contains(&format!("/{short}:"))).unwrap();
        unpack(&made[name], bench.folder.path())
    };
    let busybox = tree("busybox");
    assert_eq!(says(&bench, &busybox, &["/bin/sh", "-c", "echo a | cat; id -u"]), "a\n0\n");
    let agnhost = tree("agnhost");
    assert_eq!(says(&bench, &agnhost, &["/agnhost-2"]), "agnhost\n");
    assert!(says(&bench, &agnhost, &["curl", "--version"]).starts_with("curl "));
    let help = ["/bin/sh", "-c", "nc -h 2>&1 || true"];
    let said = says(&bench, &agnhost, &help);
    assert!(said.contains("OpenBSD netcat"), "{said}");
    let nnp = std::fs::metadata(tree("nonewprivs").join("usr/local/bin/nnp")).unwrap();
    assert_eq!(nnp.permissions().mode() & 0o7777, 0o6755);
    assert!(says(&bench, &tree("nginx"), &["nginx", "-t"]).contains("test is successful"));
    let httpd = ["/usr/sbin/apache2", "-t", "-f", "/etc/httpd.conf"];
    assert!(says(&bench, &tree("httpd"), &httpd).contains("Syntax OK"));
}

#[test]
fn an_image_that_nothing_is_known_of_is_refused_by_name() {
    let bench = Bench::new();
    let programs = bench.stored("programs", |output| {
        std::fs::create_dir_all(output.join("bin")).unwrap();
        std::fs::write(output.join("bin/agnhost"), "x").unwrap();
    });
    let tools = bench.stored("tools", |output| debian::unpack(&["busybox-static"], output));
    let wanted = ["registry.example/perl:5.26".to_owned()];
    let (_, made) =
        bench.execute("one", &[], &BTreeMap::new(), &[&programs, &tools], |execution| {
            conformance_images::run(&wanted, execution)
        });
    let failure = made.unwrap_err();
    assert!(failure.to_string().contains("registry.example/perl:5.26"), "{failure:?}");
}
