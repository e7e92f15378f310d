//! A real node image, given from outside: by hand, and by the project's end-to-end job.

use std::path::PathBuf;

use nodekiln_validate::qemu::arguments::DirectKernel;
use nodekiln_validate::{Expectations, Firmware, Machine, Request, Tier, validate};
use nodekiln_words::{Cancel, Event, Progress};

struct Stderr;
impl Progress for Stderr {
    fn event(&self, event: Event) {
        if !matches!(event, Event::Advanced { .. }) {
            eprintln!("{event:?}");
        }
    }
}

fn path(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from)
}

/// Variables: NODEKILN_IMAGE (required), NODEKILN_MANIFEST, NODEKILN_TIER (boot or kubeadm),
/// NODEKILN_OUT, NODEKILN_UEFI, NODEKILN_KERNEL and NODEKILN_INITRD with NODEKILN_APPEND.
#[test]
#[ignore = "needs an image: set NODEKILN_IMAGE and run with --ignored"]
fn a_real_image_passes() {
    let image = path("NODEKILN_IMAGE").expect("NODEKILN_IMAGE names the image");
    let expect = path("NODEKILN_MANIFEST").map(|path| Expectations::read(&path).unwrap());
    let kernel = path("NODEKILN_KERNEL").map(|kernel| DirectKernel {
        kernel,
        initrd: path("NODEKILN_INITRD").expect("NODEKILN_INITRD goes with NODEKILN_KERNEL"),
        arguments: std::env::var("NODEKILN_APPEND").unwrap_or_default(),
    });
    let kubeadm = std::env::var("NODEKILN_TIER").is_ok_and(|tier| tier == "kubeadm");
    let uefi = path("NODEKILN_UEFI").is_some();
    let kept = tempfile::tempdir().unwrap();
    let tier = if kubeadm { Tier::Kubeadm } else { Tier::Boot };
    let out = path("NODEKILN_OUT").unwrap_or_else(|| kept.path().to_owned());
    let request = Request {
        machine: Machine {
            firmware: if uefi { Firmware::Uefi } else { Firmware::Bios },
            ..Machine::default()
        },
        expect,
        patience: 2,
        kernel,
        ..Request::new(image, tier, out, "2026-11-01".parse().unwrap())
    };
    let report = validate(&request, &Stderr, &Cancel::default()).unwrap();
    eprintln!("{}", report.text());
    report.result().unwrap();
}
