use crate::at_rest::corpus::Mutation;

const CONFIG: &str = "/boot/config-6.1.0-56-cloud-amd64";
const KERNEL: &str = "/usr/lib/modules/6.1.0-56-cloud-amd64/kernel";
const GRUB: &str = "/boot/grub/grub.cfg";
const RELEASE: &str = "6.1.0-56-cloud-amd64";

pub(in crate::at_rest) const MUTATIONS: &[Mutation] = &[
    Mutation::new(
        "no memory controller",
        &["kernel-config", "cgroup-controllers"],
        "has no CONFIG_MEMCG, by",
        |examined| {
            examined.tree.replace(CONFIG, "CONFIG_MEMCG=y\n", "# CONFIG_MEMCG is not set\n");
        },
    ),
    Mutation::new(
        "an option that is set to n",
        &["kernel-config"],
        "system-validators 1.2.0",
        |examined| {
            examined.tree.replace(CONFIG, "CONFIG_PID_NS=y\n", "CONFIG_PID_NS=n\n");
        },
    ),
    Mutation::new(
        "neither name of the redirection",
        &["kernel-config"],
        "or CONFIG_IP_NF",
        |examined| {
            examined.tree.replace(CONFIG, "CONFIG_NETFILTER_XT_TARGET_REDIRECT=m\n", "");
        },
    ),
    Mutation::new(
        "the config of another release",
        &["kernel-config"],
        "config-5.10.0-1-amd64",
        |examined| {
            let text = examined.tree.text(CONFIG).unwrap().unwrap();
            examined.tree.remove(CONFIG);
            examined.tree.write("/boot/config-5.10.0-1-amd64", 0o644, text);
        },
    ),
    Mutation::new(
        "another kernel's config by this one's name",
        &["kernel-config"],
        "of a kernel 5.10",
        |examined| {
            examined.tree.replace(CONFIG, "Linux/x86 6.1.170", "Linux/x86 5.10.3");
        },
    ),
    Mutation::new(
        "no overlays",
        &["kernel-config-advised"],
        "has no CONFIG_OVERLAY_FS",
        |examined| {
            examined.tree.replace(CONFIG, "CONFIG_OVERLAY_FS=m\n", "");
        },
    ),
    Mutation::new(
        "a kernel before 3.10, with nothing of its own",
        &["kernel-version", "kernel-config", "kernel-modules", "bridge-netfilter"],
        "3.2.0-4-amd64",
        |examined| {
            examined.tree.write("/boot/vmlinuz-3.2.0-4-amd64", 0o644, "bzImage");
            examined.tree.replace(GRUB, RELEASE, "3.2.0-4-amd64");
        },
    ),
    Mutation::new(
        "a required module without its file",
        &["kernel-modules"],
        "has no xt_comment",
        |examined| {
            examined.tree.remove(&format!("{KERNEL}/net/netfilter/xt_comment.ko"));
        },
    ),
    Mutation::new(
        "the file of a module by another name",
        &["kernel-modules"],
        "has no xt_REDIRECT",
        |examined| {
            examined.tree.remove(&format!("{KERNEL}/net/netfilter/xt_REDIRECT.ko"));
            examined.tree.write(&format!("{KERNEL}/net/netfilter/xt_redirect.ko"), 0o644, "elf");
        },
    ),
    Mutation::new(
        "a module that is loaded and not there",
        &["kernel-modules"],
        "has no overlay, which",
        |examined| {
            examined.tree.remove(&format!("{KERNEL}/fs"));
        },
    ),
];
