//! What is compiled for node conformance, and how the suite is asked for its specs.

use super::{FOLDER, Recipe, Step, Target};

/// The suite's name below `bin`.
pub const SUITE: &str = "e2e_node.test";

/// The suite, the program that runs its specs at once and those of its images, quick ones first.
pub const TARGETS: [Target; 5] = [
    Target { name: "pause", recipe: Recipe::C("build/pause/linux/pause.c") },
    Target { name: "nnp", recipe: Recipe::Go("k8s.io/kubernetes/test/images/nonewprivs") },
    Target {
        name: "ginkgo",
        recipe: Recipe::Go("k8s.io/kubernetes/vendor/github.com/onsi/ginkgo/ginkgo"),
    },
    Target { name: "agnhost", recipe: Recipe::Go("k8s.io/kubernetes/test/images/agnhost") },
    Target { name: SUITE, recipe: Recipe::GoTest("k8s.io/kubernetes/test/e2e_node") },
];

/// Has the suite tell its specs by these flags. It wants to know a user; before it reads its flags it fetches a
/// manifest from the network, five times in fifteen seconds, and goes on without.
#[must_use]
pub fn list_specs(flags: &[String]) -> Step {
    let program = format!("{FOLDER}/bin/{SUITE}");
    let mut argv = vec!["env", "USER=root", &program];
    argv.extend(flags.iter().map(String::as_str));
    Step::new("list the specs", FOLDER, &argv)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suite_that_is_asked_is_the_one_that_is_compiled() {
        let step = list_specs(&["--x".to_owned()]);
        assert_eq!(step.argv[2], format!("/build/bin/{}", TARGETS[4].name).as_str());
        assert_eq!(step.argv[3], "--x");
    }
}
