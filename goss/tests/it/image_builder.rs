//! Files in the shape of those that image-builder ships, and what becomes of them: templates throughout, variables by
//! distribution and provider, anchors with merge keys, 0.3's names, commands for keys.

use nodekiln_goss::file::{self, Settings, Suite};
use nodekiln_goss::{Dialect, PackageFacts, guest, judge};

use crate::fake::{Fake, lines};

const COMMON: &str = "gossfile:\n  goss-*.yaml: {}\n";

const PACKAGES: &str = r#"{{ if ne .Vars.OS "windows"}}
node_version: &node_version
  versions:
    or:
     - contain-element:
         match-regexp: "^\\Q{{ .Vars.deb_version }}\\E$"
     - contain-element:
         match-regexp: "^\\Q{{ .Vars.rpm_version }}\\E$"
cni_version: &cni_version
  versions:
{{ if or .Vars.cni_deb_version .Vars.cni_rpm_version }}
    or:
      - contain-element:
          match-regexp: "^\\Q{{ .Vars.cni_deb_version }}\\E$"
{{ end }}

package:
{{if ne .Vars.OS "flatcar"}}
  cloud-init:
    installed: true
{{end}}
  ntp:
    installed: false
{{if eq .Vars.source_type "pkg"}}
  kubelet:
    installed: true
    <<: *node_version
  kubernetes-cni:
    installed: true
    <<: *cni_version
{{end}}
# Over the packages of a distribution.
{{range $name, $vers := index .Vars .Vars.OS "common-package"}}
  {{$name}}:
    installed: true
  {{range $key, $val := $vers}}
    {{$key}}: {{$val}}
  {{end}}
{{end}}
{{range $name, $vers := index .Vars .Vars.OS .Vars.PROVIDER "package"}}
  {{$name}}:
    installed: true
  {{range $key, $val := $vers}}
    {{$key}}: {{$val}}
  {{end}}
{{end}}
{{$release := .Vars.OS_VERSION}}
{{range $component := index .Vars .Vars.OS .Vars.PROVIDER "os_version"}}
{{if eq $release (index $component "distro_version")}}
  {{ range $name, $vers := index $component "package"}}
  {{$name}}:
    installed: true
  {{end}}
{{end}}
{{end}}
{{end}}
"#;

const COMMANDS: &str = r#"command:
{{ if ne .Vars.OS "windows" }} # Linux alone
  PATH=/usr/local/bin:/usr/bin containerd --version | awk -F' ' '{print substr($3,2); }':
    exit-status: 0
    stdout:
    - "{{.Vars.containerd_version}}"
    stderr: []
    timeout: 0
{{if and (semverCompare ">=2.0.0" .Vars.containerd_version) (ne .Vars.pull_timeout "")}}
  grep -E 'image_pull_progress_timeout = "{{.Vars.pull_timeout}}"' /etc/containerd/config.toml:
    exit-status: 0
    stdout: [ ]
{{end}}
{{if contains "spin" .Vars.shims}}
  containerd-shim-spin-v2:
    exit-status: 1
    stderr: ["io.containerd.spin.v2: InvalidArgument(\"Shim namespace cannot be empty\")"]
{{end}}
{{if and (eq .Vars.source_type "pkg") (not .Vars.additional_images)}}
# The arch is taken out of the names.
  crictl images | grep -v 'IMAGE ID' | awk -F'/' '{print $NF}' | sed 's/-{{ .Vars.arch }}//g' | sort:
    exit-status: 0
    stdout: ["etcd", "kube-apiserver"]
{{end}}
  plugins are executable:
    exec: >-
      test -x /opt/cni/bin/bridge &&
      test -x /opt/cni/bin/loopback
    exit-status: 0
    stdout: []
{{range $name, $vers := index .Vars .Vars.OS .Vars.PROVIDER "command"}}
  {{ $name }}:
  {{range $key, $val := $vers}}
    {{$key}}: {{$val}}
  {{end}}
{{end}}
{{end}} #End linux only
"#;

const SERVICES: &str = r#"service:
{{ if ne .Vars.OS "windows" }}
  containerd:
    enabled: true
    running: true
  kubelet:
    enabled: {{ .Vars.install }}
    running: false
{{range $name, $vers := index .Vars .Vars.OS "common-service"}}
  {{ $name }}:
  {{range $key, $val := $vers}}
    {{$key}}: {{$val}}
  {{end}}
{{end}}
{{end}}
kernel-param:
  net.ipv4.ip_forward:
    value: "1"
{{range $name, $vers := index .Vars .Vars.OS "common-kernel-param"}}
  {{ $name }}:
  {{range $key, $val := $vers}}
    {{$key}}: "{{$val}}"
  {{end}}
{{end}}
"#;

const FILES: &str = r#"file:
{{range $name, $vers := index .Vars .Vars.OS "common-files"}}
  {{ $name }}:
    exists: {{ $vers.exists }}
    filetype: {{ $vers.filetype }}
    contains: {{ range $vers.contains}}
    - {{.}}
  {{end}}
{{end}}
{{if .Vars.roles | regexMatch ".*gpu.*"}}
  "/etc/modprobe.d/gpu.conf":
    exists: true
    contains:
      - "blacklist nouveau"
{{end}}
"#;

const VARS: &str = r#"---
common_debs: &common_debs
  conntrack:
  curl:
  jq:

chrony_deb: &chrony_deb
  chrony:
  ntp:
    skip: true
    installed: false

arch: "amd64"
containerd_version: "1.7.2"
pull_timeout: ""
shims: ""
source_type: "pkg"
deb_version: "1.30.4-1.1"
rpm_version: "1.30.4"
cni_deb_version: ""
cni_rpm_version: ""
additional_images: false
install: true
roles: "base gpu"
OS_VERSION: "22.04"
OS: ubuntu
PROVIDER: azure

ubuntu:
  common-kernel-param:
    net.ipv4.conf.all.rp_filter:
      value: "1"
  common-package:
    <<: *common_debs
  common-service:
    apt-daily.timer:
      enabled: false
      running: false
  common-files:
    /etc/kubernetes:
      exists: true
      filetype: directory
      contains:
    /etc/motd:
      exists: false
      filetype: file
      contains: ["!secret"]
  azure:
    command:
      pip3 list --format=columns | grep 'azure-cli' | awk -F' ' '{print $1}':
        exit-status: 0
        stdout: ["azure-cli"]
        stderr: []
        timeout: 0
        title: "azure's tool is there"
    package:
      open-vm-tools:
      <<: *chrony_deb
    os_version:
    - distro_version: "20.04"
      package:
        python2:
    - distro_version: "22.04"
      package:
        python3:
  ova:
    service:
"#;

/// The files with some of the variables changed.
fn suite(vars: &str, dialect: Dialect) -> nodekiln_words::Result<Suite> {
    let folder = tempfile::tempdir().unwrap();
    let files = [
        ("goss.yaml", "gossfile:\n  common.yaml: {}\n"),
        ("common.yaml", COMMON),
        ("goss-package.yaml", PACKAGES),
        ("goss-command.yaml", COMMANDS),
        ("goss-service.yaml", SERVICES),
        ("goss-files.yaml", FILES),
        ("vars.yaml", vars),
    ];
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let settings =
        Settings { dialect, vars: vec![folder.path().join("vars.yaml")], ..Settings::default() };
    file::read(&[folder.path().join("goss.yaml")], &settings)
}

fn machine() -> Fake {
    let mut fake = Fake::default();
    for name in
        ["cloud-init", "conntrack", "curl", "chrony", "open-vm-tools", "python3", "kubernetes-cni"]
    {
        let versions = vec!["1".to_owned()];
        fake.packages.insert(name.into(), PackageFacts { versions, rpm: false });
    }
    let versions = vec!["1.30.4-1.1".to_owned()];
    fake.packages.insert("kubelet".into(), PackageFacts { versions, rpm: false });
    fake.enabled.extend(["containerd".to_owned(), "kubelet".to_owned()]);
    fake.running.push("containerd".to_owned());
    fake.parameters.insert("net.ipv4.ip_forward".into(), "1".into());
    fake.parameters.insert("net.ipv4.conf.all.rp_filter".into(), "2".into());
    let command =
        "PATH=/usr/local/bin:/usr/bin containerd --version | awk -F' ' '{print substr($3,2); }'";
    fake.commands.insert(command.into(), (0, "1.7.2\n".into(), String::new()));
    let images =
        "crictl images | grep -v 'IMAGE ID' | awk -F'/' '{print $NF}' | sed 's/-amd64//g' | sort";
    fake.commands.insert(images.into(), (0, "etcd\nkube-apiserver\npause\n".into(), String::new()));
    let plugins = "test -x /opt/cni/bin/bridge && test -x /opt/cni/bin/loopback";
    fake.commands.insert(plugins.into(), (0, String::new(), String::new()));
    fake.files
        .insert("/etc/kubernetes".into(), (nodekiln_goss::FileKind::Directory, 0o755, Vec::new()));
    fake
}

const EXPECTED: &str = "\
command PATH=/usr/local/bin:/usr/bin containerd --version | awk -F' ' '{print substr($3,2); }': exit-status=pass stdout=pass
command crictl images | grep -v 'IMAGE ID' | awk -F'/' '{print $NF}' | sed 's/-amd64//g' | sort: exit-status=pass stdout=pass
command plugins are executable: exit-status=pass
command pip3 list --format=columns | grep 'azure-cli' | awk -F' ' '{print $1}': exit-status=fail stdout=fail
file /etc/kubernetes: exists=pass filetype=pass
file /etc/motd: exists=pass filetype=skip contents=skip
file /etc/modprobe.d/gpu.conf: exists=fail contents=skip
package cloud-init: installed=pass
package kubelet: installed=pass versions=pass
package kubernetes-cni: installed=pass
package conntrack: installed=pass
package curl: installed=pass
package jq: installed=fail
package chrony: installed=pass
package ntp: installed=skip
package open-vm-tools: installed=pass
package python3: installed=pass
service containerd: enabled=pass running=pass
service kubelet: enabled=pass running=pass
service apt-daily.timer: enabled=pass running=pass
kernel-param net.ipv4.ip_forward: value=pass
kernel-param net.ipv4.conf.all.rp_filter: value=fail
";

#[test]
fn files_in_image_builders_shape_run_as_they_are() {
    for dialect in [Dialect::Goss03, Dialect::Goss04] {
        let suite = suite(VARS, dialect).unwrap_or_else(|failure| panic!("{failure:?}"));
        assert_eq!(lines(&suite, &machine()), EXPECTED);
        assert!(
            suite.resources.iter().any(|one| one.title.as_deref() == Some("azure's tool is there"))
        );
    }
}

#[test]
fn variables_decide_what_is_asked() {
    let vars = VARS
        .replace("containerd_version: \"1.7.2\"", "containerd_version: \"2.1.0\"")
        .replace("pull_timeout: \"\"", "pull_timeout: 5m")
        .replace("shims: \"\"", "shims: spin,wws")
        .replace("additional_images: false", "additional_images: true")
        .replace("OS_VERSION: \"22.04\"", "OS_VERSION: \"20.04\"")
        .replace("roles: \"base gpu\"", "roles: base");
    let suite = suite(&vars, Dialect::Goss04).unwrap();
    let ids: Vec<&str> = suite.resources.iter().map(|one| one.id.as_str()).collect();
    assert!(ids.contains(&"containerd-shim-spin-v2") && ids.contains(&"python2"));
    assert!(ids.iter().any(|id| id.contains("image_pull_progress_timeout = \"5m\"")));
    assert!(!ids.iter().any(|id| id.starts_with("crictl") || id.contains("gpu")), "{ids:?}");
    assert!(suite.resources.iter().all(|one| judge(one, &machine()).results.len() < 4));
    let ntp = suite.resources.iter().find(|one| one.id == "ntp").unwrap();
    assert!(ntp.skip, "the provider's entry replaces the first");
    assert_eq!(guest::plan(&suite.resources).len(), 25);
}

#[test]
fn a_provider_without_variables_is_told_at_the_action() {
    let vars = VARS.replace("PROVIDER: azure", "PROVIDER: moon");
    let failure = suite(&vars, Dialect::Goss04).map(|_| ()).unwrap_err();
    let text = failure.to_string();
    assert!(text.contains("goss-command.yaml:31:") && text.contains("nil"), "{text}");
    assert!(failure.help().unwrap().contains("missing in the file of variables"), "{failure:?}");
}

#[test]
fn versions_of_rpm_packages_are_those_that_goss_0_3_saw() {
    let mut machine = machine();
    let versions = vec!["1.30.4-150500.1.1".to_owned()];
    machine.packages.insert("kubelet".into(), PackageFacts { versions, rpm: true });
    let of = |dialect| lines(&suite(VARS, dialect).unwrap(), &machine);
    assert!(of(Dialect::Goss03).contains("package kubelet: installed=pass versions=pass"));
    assert!(of(Dialect::Goss04).contains("package kubelet: installed=pass versions=fail"));
}
