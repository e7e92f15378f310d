use crate::at_rest::corpus::Mutation;

/// Secrets are put together here, so that nobody takes this file for one that holds some.
fn secret(prefix: &str, length: usize) -> String {
    let signs = "Q7RZ2KJX5MVTB3WNPG4HY6CDLFSA".chars().cycle();
    prefix.chars().chain(signs.take(length)).collect()
}

pub(in crate::at_rest) const MUTATIONS: &[Mutation] = &[
    Mutation::new(
        "a cloud's key",
        &["tokens"],
        "/root/.aws/credentials:2: an access key of AWS",
        |e| {
            let text = format!("[default]\naws_access_key_id = {}\n", secret("AKIA", 16));
            e.tree.write("/root/.aws/credentials", 0o600, text);
        },
    ),
    Mutation::new("a cloud's secret", &["tokens"], "/etc/build.env:1: a secret key of AWS", |e| {
        e.tree.write(
            "/etc/build.env",
            0o600,
            format!("AWS_SECRET_ACCESS_KEY={}\n", secret("", 40)),
        );
    }),
    Mutation::new("a service account", &["tokens"], "a service account of Google's", |e| {
        let text = format!("{{\n  \"private_key_id\": \"{}\"\n}}\n", secret("", 40));
        e.tree.write("/opt/build/account.json", 0o600, text);
    }),
    Mutation::new("a web token", &["tokens"], "a web token", |e| {
        let text = format!(
            "bearer {}.{}.{}\n",
            secret("eyJhbGci", 12),
            secret("eyJpc3Mi", 20),
            secret("", 43)
        );
        e.tree.write("/etc/token", 0o600, text);
    }),
    Mutation::new("a token of a forge", &["tokens"], "a token of GitHub's", |e| {
        e.tree.write("/home/.token", 0o600, secret("ghp_", 36));
    }),
    Mutation::new(
        "a kubeconfig with a token",
        &["tokens"],
        "/root/.kube/config:8: a kubeconfig with a login",
        |e| {
            let text = "apiVersion: v1\nkind: Config\nclusters:\n- name: build\nusers:\n- name: build\n  user:\n    token: t0\n";
            e.tree.write("/root/.kube/config", 0o600, text);
        },
    ),
    Mutation::new(
        "a registry's login",
        &["tokens"],
        "/root/.docker/config.json:1: a login of a registry",
        |e| {
            e.tree.write(
                "/root/.docker/config.json",
                0o600,
                r#"{"auths":{"registry.corp":{"auth":"YTpi"}}}"#,
            );
        },
    ),
    Mutation::new(
        "a registry's login of containerd's",
        &["tokens"],
        "/etc/containerd/certs.d/r/hosts.toml:2",
        |e| {
            let text =
                "[host.\"https://registry.corp\".header]\n  authorization = \"Basic YTpi\"\n";
            e.tree.write("/etc/containerd/certs.d/r/hosts.toml", 0o644, text);
        },
    ),
    Mutation::new("a login for downloads", &["tokens"], "/root/.netrc:1", |e| {
        e.tree.write(
            "/root/.netrc",
            0o600,
            "machine repo.corp\n  login build\n  password hunter2\n",
        );
    }),
    Mutation::new("a login for packages", &["tokens"], "/etc/apt/auth.conf.d/repo.conf:1", |e| {
        e.tree.write(
            "/etc/apt/auth.conf.d/repo.conf",
            0o600,
            "machine repo.corp login a password b\n",
        );
    }),
    Mutation::new(
        "a login for sources",
        &["tokens"],
        "/root/.git-credentials:1: a login of git's",
        |e| {
            e.tree.write("/root/.git-credentials", 0o600, "https://build:hunter2@git.corp\n");
        },
    ),
    Mutation::new("a login for an index", &["tokens"], "/root/.npmrc:1", |e| {
        e.tree.write("/root/.npmrc", 0o600, "//npm.corp/:_authToken=hunter2\n");
    }),
    Mutation::new("a bootstrap token", &["tokens"], "a bootstrap token of kubeadm's", |e| {
        let text = "apiVersion: kubeadm.k8s.io/v1beta2\nbootstrapTokens:\n- token: \"a1b2c3.d4e5f6a7b8c9d0e1\"\n";
        e.tree.write("/etc/kubeadm.yml", 0o600, text);
    }),
    Mutation::new(
        "an address with a login",
        &["tokens"],
        "/etc/pip.conf:2: an address with a login",
        |e| {
            let text = "[global]\nindex-url = https://build:hunter2@pypi.corp/simple\n";
            e.tree.write("/etc/pip.conf", 0o644, text);
        },
    ),
];
