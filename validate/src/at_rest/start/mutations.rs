//! What may become of what a sound tree starts with.

use crate::at_rest::corpus::Mutation;

pub(in crate::at_rest) const MUTATIONS: &[Mutation] = &[
    Mutation::new(
        "the kernel has no console",
        &["console-argument"],
        "/boot/grub/grub.cfg, line 4",
        |image| {
            image.tree.replace("/boot/grub/grub.cfg", " console=tty1 console=ttyS0", "");
        },
    ),
    Mutation::new(
        "the machine has another console",
        &["console-argument"],
        "console=ttyAMA0",
        |image| {
            image.machine.profile.console = "ttyAMA0".to_owned();
        },
    ),
    Mutation::new(
        "a later kernel has no console",
        &["console-argument"],
        "/etc/default/grub",
        |image| {
            image.tree.replace("/etc/default/grub", " console=ttyS0", "");
        },
    ),
    Mutation::new(
        "EC2 without a DHCP client",
        &["datasource-detected", "early-dhcp"],
        "Ec2",
        |image| {
            image.machine.profile.data_source = "Ec2".to_owned();
            image.tree.remove("/usr/sbin/dhclient");
        },
    ),
];
