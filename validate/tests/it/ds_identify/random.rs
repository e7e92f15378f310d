//! Machines and images that chance puts together.

use nodekiln_validate::ds_identify::{BlockDevice, Dmi, Edition, GuestInfo, MachineView};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::{Config, FileFailurePersistence, TestCaseError, TestRunner};

use super::TOOLS;
use super::oracle::{Files, Oracle, difference, oracles};

/// Runs for each edition, where `PROPTEST_CASES` says nothing: each starts some ten processes.
const CASES: u32 = 30;

fn one_of(texts: &'static [&'static str]) -> impl Strategy<Value = String> {
    select(texts).prop_map(str::to_owned)
}

/// What a check looks for, or something else, or nothing.
fn maybe(texts: &'static [&'static str]) -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        2 => Just(None),
        3 => one_of(texts).prop_map(Some),
        1 => "[ -~]{0,12}".prop_map(Some),
    ]
}

fn dmi() -> impl Strategy<Value = Option<Dmi>> {
    let strings = (
        maybe(&["QEMU", "Amazon EC2", "Hetzner", "Scaleway", "e24cloud", "Tilaa", "Vultr"]),
        maybe(&[
            "OpenStack Nova",
            "Google Compute Engine",
            "CloudStack x",
            "SmartDC x",
            "m5.large",
        ]),
        maybe(&["GoogleCloud-1", "x ds=nocloud;h=y", "ec2e1916-9099", "EC2E1916-9099", "\\ x "]),
        maybe(&["ec2e1916-9099", "45E12AEC-1", "0-ec2", "EC2", "2aec-", "aec"]),
        maybe(&["LXD", "440BX Desktop Reference Platform"]),
        maybe(&[
            "7783-7084-3265-9085-8269-3286-77",
            "OracleCloud.com",
            "HUAWEICLOUD",
            "Samsung Cloud Platform",
            "a.zstack.io",
        ]),
    );
    let dmi = strings.prop_map(|(vendor, name, serial, uuid, board, tag)| Dmi {
        sys_vendor: vendor,
        product_name: name,
        product_serial: serial,
        product_uuid: uuid,
        board_name: board,
        chassis_asset_tag: tag,
    });
    prop_oneof![1 => Just(None), 9 => dmi.prop_map(Some)]
}

fn devices() -> impl Strategy<Value = Vec<BlockDevice>> {
    let labels = &[
        "cidata",
        "CIDATA",
        "config-2",
        "CONFIG-2",
        "OVFENV",
        "OVF ENV",
        "rd_rdfe_stable.1",
        "CONTEXT",
        "METADATA",
        "CLOUDMD",
        "root",
        "a,config-2",
        "a=b",
    ];
    let device = (
        select(&["/dev/sr0", "/dev/sr1", "/dev/hda", "/dev/hdaa", "/dev/vdb", "/dev/sda1"][..]),
        maybe(labels),
        proptest::option::weighted(0.2, one_of(labels)),
        proptest::option::of(one_of(&["9796-932E", "1-2"])),
        proptest::option::of(one_of(&["iso9660", "vfat", "udf", "ext4"])),
        select(&[None, Some(0), Some(9 << 20), Some(10 << 20), Some(1 << 40)][..]),
        any::<bool>(),
    );
    let device = device.prop_map(|(path, label, boot_label, uuid, kind, size, ovf_environment)| {
        let path = path.to_owned();
        BlockDevice { path, label, boot_label, uuid, kind, size, ovf_environment }
    });
    proptest::collection::vec(device, 0..4).prop_map(|mut devices| {
        devices.sort_by(|one, other| one.path.cmp(&other.path));
        devices.dedup_by(|one, other| one.path == other.path);
        devices
    })
}

fn command_line() -> impl Strategy<Value = String> {
    let words = &[
        "quiet",
        "ds=nocloud",
        "ds=nocloud-net;s=http://x/",
        "ds",
        "ci.ds=Ec2",
        "ci.datasource=GCE;x",
        "ci.di.policy=report",
        "ci.di.policy=search,maybe=all",
        "ci.di.policy=notfound=enabled",
        "cc:{'datasource_list':",
        "datasource_list: [NoCloud]",
        "cc:datasource_list [ 'OVF', \"Ec2\" ]",
        "cloud-init=disabled",
        "scaleway",
        "xvultr",
        "ci.datasource.ec2.strict_id=warn",
        "ci.datasource.ec2.strict_id=",
        "cloud-config-url=x",
        "iqn.2004-05.com.ubuntu:maas",
    ];
    proptest::collection::vec(select(&words[..]), 0..4).prop_map(|words| words.join(" "))
}

fn guest_info() -> impl Strategy<Value = Option<GuestInfo>> {
    let text = || maybe(&["x", "", "---", "<?xml?>"]);
    let info = (text(), text(), text(), text());
    proptest::option::weighted(
        0.3,
        info.prop_map(|(ovf, metadata, user, vendor)| GuestInfo {
            ovf_environment: ovf,
            metadata,
            user_data: user,
            vendor_data: vendor,
        }),
    )
}

fn machine() -> impl Strategy<Value = MachineView> {
    let words = &["kvm", "qemu", "vmware", "microsoft", "amazon", "xen", "none", "lxc", "docker"];
    let parts = (
        dmi(),
        one_of(words),
        command_line(),
        devices(),
        one_of(&["x86_64", "i686", "aarch64", "s390x"]),
        (guest_info(), guest_info()),
        proptest::option::weighted(0.1, one_of(&["ec2a", "0-0"])),
        proptest::option::weighted(0.1, one_of(&["OpenStack Nova", "x"])),
        proptest::option::weighted(0.5, command_line()),
        any::<(bool, bool, bool)>(),
    );
    parts.prop_map(
        |(dmi, virtualisation, command_line, devices, architecture, info, xen, init, own, few)| {
            let (guest_info, environment_guest_info) = info;
            let mut virtio_ports = vec!["org.qemu.guest_agent.0".to_owned()];
            if few.0 && few.1 {
                virtio_ports.push("com.canonical.lxd".to_owned());
            }
            MachineView {
                dmi,
                virtualisation,
                command_line,
                init_command_line: own,
                init_product_name: init,
                devices,
                architecture,
                kernel_version: "#1 SMP".to_owned(),
                hypervisor_uuid: xen,
                guest_info,
                environment_guest_info: environment_guest_info.filter(|_| few.2),
                virtio_ports,
                lxd_socket: few.0 && few.1 && few.2,
            }
        },
    )
}

/// A line of configuration, as people write it and as they do not.
fn line() -> impl Strategy<Value = String> {
    let keys = &[
        "datasource_list",
        "datasource_list",
        "datasource_list",
        "strict_id",
        "NoCloud",
        "MAAS",
        "user-data",
        "meta-data",
        "seedfrom",
        "disable_vmware_customization",
        "other",
    ];
    let values = prop_oneof![
        5 => (subsequence(Edition::V26_2.default_list().to_vec(), 0..6), any::<(bool, u8)>()).prop_map(
            |(names, (none, style))| {
                let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
                if none {
                    names.push("None".to_owned());
                }
                match style % 6 {
                    0 => format!("[{}]", names.join(",")),
                    1 => format!("[ '{}' ]", names.join("', '")),
                    2 => format!("[\"{}\"]", names.join("\" , \"")),
                    3 => format!("[{},", names.join(", ")),
                    4 => names.join("  ,  "),
                    _ => format!("[ {}, ,]", names.join(", ")),
                }
            }
        ),
        1 => select(&["true", "false", "warn,5", "0", "\"false\"", "", "[]", "[,,]", "{a: b}"][..])
            .prop_map(str::to_owned),
    ];
    let parts = (
        select(&["", "", "", "  ", "\t", "# ", " # ", "- ", "x", "{"][..]),
        select(&keys[..]),
        select(&[": ", ": ", ": ", ":", " : ", "\t:\t", "\": ", "' :", "\\:", " = "][..]),
        values,
        select(&["", "", "", " ", "\t", " # why", "#why", "\r", "\\"][..]),
        select(&["\n", "\n", "\n", "\n", ""][..]),
    );
    parts.prop_map(|(before, key, colon, value, after, end)| {
        format!("{before}{key}{colon}{value}{after}{end}")
    })
}

fn own_configuration() -> impl Strategy<Value = String> {
    let line = select(
        &[
            "policy: search,found=first",
            "policy: report, found=all",
            " policy : \"search,maybe=all,notfound=enabled\" # why",
            "policy: 'notfound=disabled,mode=x'",
            "policy: disabled",
            "policy: found=x,notfound=y,maybe=z",
            "datasource: Ec2",
            "datasource: \"NoCloud\"",
            "# datasource: GCE",
            "ci.datasource.ec2.strict_id: false",
            "ci.datasource.ec2.strict_id: 'warn,3'",
            "policy",
            "",
        ][..],
    );
    let lines = proptest::collection::vec(line, 0..4);
    (lines, any::<bool>()).prop_map(|(lines, ended)| {
        let end = if ended { "\n" } else { "" };
        format!("{}{end}", lines.join("\n"))
    })
}

/// Paths that may be there and in which it does not matter what they hold.
const LEFT: &[&str] = &[
    "/var/lib/cloud/seed/nocloud/meta-data",
    "/var/lib/cloud/seed/nocloud/user-data",
    "/var/lib/cloud/seed/ovf/ovf-env.xml",
    "/var/lib/cloud/seed/azure/ovf-env.xml",
    "/var/lib/cloud/seed/ec2/meta-data",
    "/var/lib/cloud/seed/ec2/user-data",
    "/var/lib/cloud/seed/config_drive/openstack/latest/meta_data.json",
    "/config-drive/openstack/2018-08-27/meta_data.json",
    "/root/provisioningConfiguration.cfg",
    "/var/lib/cloud/instance/manual-clean",
    "/etc/cloud/cloud-init.disabled",
    "/etc/vultr",
    TOOLS[0],
    TOOLS[1],
    TOOLS[2],
];

fn image() -> impl Strategy<Value = Files> {
    let text = || proptest::collection::vec(line(), 0..4).prop_map(|lines| lines.concat());
    let names = &["10.cfg", "20_Ec2.cfg", "90.cfg", ".x.cfg", "99.cfg.bak"];
    let files = proptest::collection::btree_map(select(&names[..]), text(), 0..3);
    // Most of these decide alone, so that few are taken.
    let left = prop_oneof![3 => Just(Vec::new()), 1 => subsequence(LEFT.to_vec(), 0..5)];
    let own = proptest::option::weighted(0.4, own_configuration());
    (proptest::option::weighted(0.8, text()), files, own, left).prop_map(
        |(main, files, own, left)| {
            let mut image = Files::new();
            let bytes = |text: String| text.into_bytes();
            image.extend(main.map(|text| ("/etc/cloud/cloud.cfg".to_owned(), bytes(text))));
            let files = files.into_iter();
            image.extend(
                files.map(|(name, text)| (format!("/etc/cloud/cloud.cfg.d/{name}"), bytes(text))),
            );
            image.extend(own.map(|text| ("/etc/cloud/ds-identify.cfg".to_owned(), bytes(text))));
            image.extend(left.into_iter().map(|path| (path.to_owned(), b"x".to_vec())));
            // A file that nothing asks for keeps the folder there.
            image.insert("/etc/cloud/templates/x".to_owned(), Vec::new());
            image
        },
    )
}

#[test]
fn port_and_script_agree_on_what_chance_puts_together() {
    std::thread::scope(|scope| {
        for oracle in oracles() {
            scope.spawn(move || compare(oracle));
        }
    });
}

fn compare(oracle: &Oracle) {
    let persistence = Box::new(FileFailurePersistence::Off);
    let mut config = Config { failure_persistence: Some(persistence), ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
    }
    let mut runner = TestRunner::new(config);
    let result = runner.run(&(machine(), image()), |(machine, image)| {
        match difference(oracle, &machine, &image) {
            Some(text) => Err(TestCaseError::fail(text)),
            None => Ok(()),
        }
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}
