use super::*;
use crate::at_rest::corpus::sound;
use crate::rules::Family;

fn judged(path: &str, text: &str) -> Verdict {
    let mut examined = sound(Family::Debian);
    examined.tree.write(path, 0o644, text);
    tokens(&examined).unwrap()
}

#[test]
fn examples_placeholders_and_words_are_no_tokens() {
    for (path, text) in [
        ("/etc/a", "aws_access_key_id = AKIAIOSFODNN7EXAMPLE\n"),
        ("/etc/a", "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n"),
        ("/etc/a", "key: AKIAAAAAAAAAAAAAAAAA\n"),
        ("/etc/a", "AKIAQ7RZ2KJX5MVTB3WNPG4HY6CD\n"), // longer than one
        ("/etc/a", "proxy: http://user:$SECRET@proxy\n"),
        ("/etc/a", "eyJhbGciOiJSUzI1NiJ9 begins a token\n"),
        ("/etc/pip.conf", "index-url = https://pypi.corp/simple\n"),
        ("/etc/pip.conf", "index-url = https://user:${TOKEN}@pypi.corp/simple\n"),
        ("/root/.kube/config", "kind: Config\nclusters: []\nusers: []\n"),
        ("/root/.docker/config.json", r#"{"auths":{"r":{}},"credsStore":"ecr"}"#),
        (
            "/etc/kubeadm.yml",
            "apiVersion: kubeadm.k8s.io/v1beta2\n- token: abcdef.0123456789abcdef\n",
        ),
        ("/root/.netrc", "# machine a login b password c\n"),
        ("/root/.npmrc", "//npm.corp/:_authToken=${NPM_TOKEN}\n"),
        ("/etc/containerd/config.toml", "auth = \"\"\n# password = \"x\"\n"),
        ("/etc/apt/auth.conf", "machine a login b\n"),
    ] {
        let verdict = judged(path, text);
        assert!(matches!(verdict, Verdict::Pass(_)), "{path}: {text}: {verdict:?}");
    }
}

#[test]
fn files_of_images_and_packages_and_long_files_are_not_searched() {
    let key = "aws_access_key_id = AKIAQ7RZ2KJX5MVTB3WN\n";
    assert!(matches!(judged("/etc/a", key), Verdict::Fail(_)));
    for path in ["/var/lib/containerd/x/a", "/var/lib/dpkg/info/a", "/usr/share/doc/a"] {
        assert!(matches!(judged(path, key), Verdict::Pass(_)), "{path}");
    }
    let long = format!("{}{key}", "# a line\n".repeat(40_000));
    assert!(matches!(judged("/etc/a", &long), Verdict::Pass(_)));
}

#[test]
fn a_secret_that_the_recipe_writes_is_told_as_such() {
    let mut examined = sound(Family::Debian);
    examined.tree.write("/etc/a", 0o600, "AKIAQ7RZ2KJX5MVTB3WN\n");
    examined.expect.files.insert("/etc/a".into());
    let verdict = tokens(&examined).unwrap();
    assert!(verdict.seen().contains("which the recipe writes"), "{verdict:?}");
}

#[test]
fn no_secret_is_shown() {
    let verdict = judged("/root/.git-credentials", "https://build:hunter2@git.corp\n");
    assert!(!verdict.seen().contains("hunter2"));
}

#[test]
fn entropy_is_that_of_the_signs() {
    assert!(entropy("aaaaaaaa") < 0.1);
    assert!((entropy("abcdefgh") - 3.0).abs() < 1e-9);
}
