use super::*;

const V16: Option<Release> = Some(Release { major: 1, minor: 6 });
const V21: Option<Release> = Some(Release { major: 2, minor: 1 });

const V2_FILE: &str = r#"
version = 2
imports = ["/etc/containerd/conf.d/*.toml"]
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "k8s.gcr.io/pause:3.2"
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "/etc/containerd/certs.d"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = true
"#;

const V3_FILE: &str = r#"
version = 3
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "registry.k8s.io/pause:3.10"
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/usr/lib/cni", "/opt/cni/bin"]
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
SystemdCgroup = true
"#;

fn read(release: Option<Release>, files: &[(&str, &str)]) -> Settings {
    let mut tree = Tree::default();
    for (path, text) in files {
        tree.write(path, 0o644, text);
    }
    Settings::read_by(&tree, release).unwrap()
}

#[test]
fn both_layouts_give_the_same_settings() {
    let old = read(V16, &[(CONFIG, V2_FILE)]);
    assert_eq!(old.problems, Vec::<String>::new());
    assert_eq!(old.sandbox_image.as_deref(), Some("k8s.gcr.io/pause:3.2"));
    assert_eq!(old.registry_config_path.as_deref(), Some("/etc/containerd/certs.d"));
    assert_eq!(old.cni_bin, ["/opt/cni/bin"]);
    let new = read(V21, &[(CONFIG, V3_FILE)]);
    assert_eq!(new.problems, Vec::<String>::new());
    assert_eq!(new.sandbox_image.as_deref(), Some("registry.k8s.io/pause:3.10"));
    assert_eq!(new.cni_bin, ["/usr/lib/cni", "/opt/cni/bin"]);
    for settings in [old, new] {
        assert!(settings.runtime().unwrap().systemd_cgroup);
        assert_eq!(settings.default_runtime, "runc");
    }
}

#[test]
fn without_a_file_the_defaults_count() {
    let settings = read(V16, &[]);
    assert!(settings.files.is_empty() && settings.problems.is_empty());
    assert_eq!((settings.root.as_str(), settings.state.as_str()), (ROOT, STATE));
    assert_eq!((settings.socket.as_str(), settings.sandbox_image), (SOCKET, None));
    assert!(!settings.runtimes["runc"].systemd_cgroup);
}

#[test]
fn a_file_of_version_1_has_short_names() {
    let text = "[plugins.cri]\nsandbox_image = \"a\"\n[plugins.cri.cni]\nbin_dir = \"/b\"\n";
    let settings = read(V16, &[(CONFIG, text)]);
    assert_eq!((settings.schema, settings.sandbox_image.as_deref()), (1, Some("a")));
    assert_eq!(settings.cni_bin, ["/b"]);
    assert!(settings.problems.is_empty(), "{:?}", settings.problems);
    let named = read(V16, &[(CONFIG, &format!("version = 2\n{text}"))]);
    assert!(named.problems[0].contains("[plugins.cri] is a section of version 1"), "{named:?}");
}

#[test]
fn an_import_replaces_a_plugins_section_up_to_1_7_and_is_laid_over_it_from_2_0_on() {
    let import =
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/x\"\n";
    let files = [(CONFIG, V2_FILE), ("/etc/containerd/conf.d/50-x.toml", import)];
    let old = read(V16, &files);
    assert_eq!(old.files, [CONFIG, "/etc/containerd/conf.d/50-x.toml"]);
    assert_eq!((old.registry_config_path.as_deref(), old.sandbox_image), (Some("/x"), None));
    assert!(!old.runtimes["runc"].systemd_cgroup);
    let new = read(Some(Release { major: 2, minor: 0 }), &files);
    assert_eq!(new.registry_config_path.as_deref(), Some("/x"));
    assert_eq!(new.sandbox_image.as_deref(), Some("k8s.gcr.io/pause:3.2"));
}

#[test]
fn the_built_in_runtime_goes_where_another_is_named_up_to_1_7() {
    let section = "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.crun]\n";
    let text = format!("version = 2\n{section}runtime_type = \"io.containerd.runc.v2\"\n");
    let old = read(V16, &[(CONFIG, &text)]);
    assert_eq!((old.runtimes.len(), old.runtime()), (1, None));
    assert!(read(V21, &[(CONFIG, &text)]).runtime().is_some());
}

#[test]
fn imports_are_read_once_and_one_that_is_not_there_is_told() {
    let text = "version = 2\nimports = [\"more.toml\", \"/gone.toml\"]\nroot = \"/a\"\n";
    let more = "imports = [\"/etc/containerd/config.toml\"]\nroot = \"/b\"\n";
    let settings = read(V16, &[(CONFIG, text), ("/etc/containerd/more.toml", more)]);
    assert_eq!((settings.root.as_str(), settings.files.len()), ("/b", 2));
    assert_eq!(settings.problems, ["/gone.toml is imported and is no file"]);
}

#[test]
fn what_containerd_refuses_or_skips_is_told_with_its_place() {
    let section = "[plugins.\"io.containerd.cri.v1.images\".pinned_images]\nsandbox = \"a\"\n";
    let wrong = [
        ("version = 2\nroot = ", "line 2"),
        ("version = 3\n", "version = 3, and containerd 1.6 reads up to 2"),
        ("version = 2\ndisabled_plugins = [\"cri\"]\n", "disabled_plugins has cri"),
        (
            &format!("version = 2\n{section}"),
            "pinned_images of [plugins.\"io.containerd.cri.v1.images\"]",
        ),
        (
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = 3\n",
            "is no string",
        ),
        (
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\n\
             SystemdCgroup = \"true\"\n",
            "true or false",
        ),
    ];
    for (text, told) in wrong {
        let problems = read(V16, &[(CONFIG, text)]).problems;
        assert!(problems.len() == 1 && problems[0].contains(told), "{text}: {problems:?}");
        assert!(problems[0].starts_with(CONFIG), "{problems:?}");
    }
    let old_in_new = format!("version = 3\n{}", V2_FILE.replace("version = 2\n", ""));
    let problems = read(V21, &[(CONFIG, &old_in_new)]).problems;
    assert!(problems.iter().any(|told| told.contains("sandbox_image")), "{problems:?}");
    // In the wrong one of two plugins.
    let swapped =
        "version = 3\n[plugins.\"io.containerd.cri.v1.runtime\".registry]\nconfig_path = \"/x\"\n";
    let problems = read(V21, &[(CONFIG, swapped)]).problems;
    assert!(problems[0].contains("registry.config_path"), "{problems:?}");
}

#[test]
fn an_import_of_a_later_version_is_refused() {
    let files = [(CONFIG, V2_FILE), ("/etc/containerd/conf.d/a.toml", "version = 3\n")];
    let problems = read(V21, &files).problems;
    assert!(problems[0].contains("version = 3, above 2"), "{problems:?}");
}
