//! What is picked on our providers' machines, and what our rules have to see.

use nodekiln_validate::ds_identify::{
    Answer, Channel, Edition, MachineView, Pick, Way, judge, matrix,
};

use super::oracle::{Files, oracles};
use super::{SEED, lay_over, profile, providers};

fn image(files: &Files, more: &[(&str, &str)]) -> Files {
    let mut image = files.clone();
    image.extend(more.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())));
    image
}

/// Each oracle's image with each provider's layer, its machines, and what has to be picked there.
fn each(mut tell: impl FnMut(Edition, &str, &Files, Channel, &MachineView, &str)) {
    for oracle in oracles() {
        for provider in providers() {
            let mut files = oracle.image();
            lay_over(&mut files, provider.as_ref());
            for case in matrix(&profile(provider.as_ref()), SEED).unwrap() {
                let (machine, expected) = (&case.machine, case.expected);
                tell(oracle.edition, provider.name(), &files, case.channel, machine, expected);
            }
        }
    }
}

#[test]
fn every_layer_is_right_on_its_own_machines() {
    each(|edition, provider, files, channel, machine, expected| {
        let pick = judge(machine, files, expected).unwrap();
        let title = format!("{edition:?} {provider} {channel:?}: {pick:?}");
        assert!(pick.is_expected(), "{title}");
        let (Pick::Expected(check) | Pick::Unseen { check, .. }) = &pick else { return };
        assert_eq!(check.answer, Answer::Found, "{title}");
        // Layers of one cloud name it; the others leave it to what is found.
        let single = matches!(provider, "aws" | "azure" | "gce");
        assert_eq!(matches!(pick, Pick::Unseen { way: Way::SingleEntry, .. }), single, "{title}");
    });
}

#[test]
fn without_any_list_each_machine_is_still_told_from_all_others() {
    for oracle in oracles() {
        let mut files = oracle.image();
        lay_over(&mut files, &nodekiln_vsphere::Vsphere); // for its tools
        files.remove("/etc/cloud/cloud.cfg.d/90_datasource.cfg");
        for provider in providers() {
            for case in matrix(&profile(provider.as_ref()), SEED).unwrap() {
                let pick = judge(&case.machine, &files, case.expected).unwrap();
                assert!(
                    matches!(pick, Pick::Expected(_)),
                    "{} {case:?}: {pick:?}",
                    provider.name()
                );
            }
        }
    }
}

#[test]
fn what_is_wrong_with_an_image_is_seen() {
    const LIST: &str = "/etc/cloud/cloud.cfg.d/95.cfg";
    const OWN: &str = "/etc/cloud/ds-identify.cfg";
    each(|edition, provider, files, channel, machine, expected| {
        let picked = |more: &[(&str, &str)]| judge(machine, &image(files, more), expected).unwrap();
        let title = format!("{edition:?} {provider} {channel:?}");
        // Another provider's list, of one entry and of several.
        let pick = picked(&[(LIST, "datasource_list: [Hetzner]\n")]);
        assert!(matches!(pick, Pick::Others { .. }), "{title}: {pick:?}");
        let pick = picked(&[(LIST, "datasource_list: [Hetzner, Oracle]\n"), (OWN, "")]);
        assert!(matches!(pick, Pick::Nothing { .. }), "{title}: {pick:?}");
        // A seed that was left, where the list has NoCloud.
        let list = format!("datasource_list: [NoCloud, {expected}]\n");
        let pick = picked(&[
            (LIST, &list),
            ("/var/lib/cloud/seed/nocloud/meta-data", ""),
            ("/var/lib/cloud/seed/nocloud/user-data", ""),
        ]);
        match (&pick, expected) {
            (Pick::Expected(_), "NoCloud") => {}
            (Pick::Several(found), _) => {
                let found: Vec<&str> = found.iter().map(|one| one.source.as_str()).collect();
                assert_eq!(found, ["NoCloud", expected], "{title}");
            }
            _ => panic!("{title}: {pick:?}"),
        }
        // Switched off.
        for (path, text) in [(OWN, "policy: disabled\n"), ("/etc/cloud/cloud-init.disabled", "")] {
            let pick = picked(&[(path, text)]);
            assert!(matches!(pick, Pick::Off(_)), "{title}: {pick:?}");
        }
        // Nothing is looked for.
        let pick = picked(&[(OWN, "policy: enabled\n")]);
        assert_eq!(pick, Pick::Everything(Way::ByMode), "{title}");
        // A script that nobody here knows.
        let pick = picked(&[("/usr/lib/cloud-init/ds-identify", "#!/bin/sh\n")]);
        assert!(matches!(pick, Pick::NotProven(_)), "{title}: {pick:?}");
    });
}

#[test]
fn two_media_at_once_are_seen() {
    for oracle in oracles() {
        let mut files = oracle.image();
        lay_over(&mut files, &nodekiln_providers::OpenStack);
        let profile = profile(&nodekiln_providers::OpenStack);
        let media = [Channel::ConfigDrive, Channel::NoCloudDrive];
        let firmware = profile.firmware[0];
        let machine = MachineView::of_profile(&profile, firmware, &media, SEED).unwrap();
        let pick = judge(&machine, &files, "ConfigDrive").unwrap();
        let Pick::Several(found) = &pick else { panic!("{pick:?}") };
        let found: Vec<&str> = found.iter().map(|one| one.source.as_str()).collect();
        assert_eq!(found, ["NoCloud", "ConfigDrive"]);
        // The service is not asked where there is a drive.
        let pick = judge(&machine, &files, "OpenStack").unwrap();
        assert!(matches!(pick, Pick::Others { .. }), "{pick:?}");
    }
}
