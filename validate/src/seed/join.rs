//! What makes a second machine join the first one's cluster: kubeadm's configuration, its part of the pods' network,
//! and the way between the two.

use std::fmt;

use nodekiln_words::{Class, Failure, Result};

use super::KubeadmPlan;
use super::kubeadm;
use super::user_data::File;
use crate::place::Place;

/// kubeadm's configuration in the guest.
const KUBEADM_CONFIG: &str = "/run/kubeadm/kubeadm-join-config.yaml";
/// What the first node is asked for the secret and the fingerprint: a command line to join with.
pub const TOKEN: [&str; 4] = ["kubeadm", "token", "create", "--print-join-command"];

/// A node to be made a second one of the cluster that [`KubeadmPlan`] made.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinPlan {
    cluster: KubeadmPlan,
    endpoint: String,
    token: String,
    ca_hash: String,
}

/// Without the token, which lets whoever has it join.
impl fmt::Debug for JoinPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinPlan").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl JoinPlan {
    /// Reads what [`TOKEN`] answers.
    ///
    /// # Errors
    /// When endpoint, token or fingerprint is not in it, or the cluster has another authority than it was handed.
    pub fn of(cluster: &KubeadmPlan, answer: &str) -> Result<Self> {
        let words: Vec<&str> = answer.split_whitespace().filter(|word| *word != "\\").collect();
        let after = |flag: &str| {
            let place = words.iter().position(|word| *word == flag)?;
            words.get(place + 1).map(|word| (*word).to_owned()).filter(|word| plain(word))
        };
        let all = (after("join"), after("--token"), after("--discovery-token-ca-cert-hash"));
        let (Some(endpoint), Some(token), Some(ca_hash)) = all else {
            return Err(Failure::io("kubeadm gives no command to join with")); // its words hold the token
        };
        let handed_over = cluster.authorities.fingerprint();
        if ca_hash != handed_over {
            let text =
                format!("the cluster's authority is {ca_hash}, and {handed_over} was handed over");
            return Err(Failure::new(Class::Verdict, text));
        }
        Ok(Self { cluster: cluster.clone(), endpoint, token, ca_hash })
    }

    pub(super) fn files(&self, place: Place) -> Vec<File> {
        let file = |path, mode, content| File { path, mode, content };
        vec![
            file(KUBEADM_CONFIG, "0640", self.configuration()),
            kubeadm::placeholder(),
            kubeadm::network_plugin(
                kubeadm::NETWORK_PLUGIN.replace(&pods(Place::FIRST), &pods(place)),
            ),
        ]
    }

    pub(super) fn commands(&self, place: Place) -> Vec<String> {
        vec![
            way(place, Place::FIRST),
            format!(
                "kubeadm join --config {KUBEADM_CONFIG} && echo success > {}",
                kubeadm::SENTINEL
            ),
        ]
    }

    fn configuration(&self) -> String {
        let Self { cluster, endpoint, token, ca_hash } = self;
        let (discovery, timeouts) = cluster.join_timeouts();
        format!(
            "---\n\
             apiVersion: {}\n\
             kind: JoinConfiguration\n\
             discovery:\n  \
               bootstrapToken:\n    \
                 apiServerEndpoint: {endpoint}\n    \
                 token: {token}\n    \
                 caCertHashes:\n      \
                   - {ca_hash}\n\
             {discovery}\
             nodeRegistration:\n  \
               criSocket: {}\n  \
               name: '{}'\n\
             {timeouts}",
            cluster.api_version(),
            cluster.cri_socket(),
            cluster.node_name,
        )
    }
}

/// Letters, digits and what stands in addresses, tokens and digests: nothing that YAML or jinja read as more.
fn plain(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".:-[]".contains(&byte))
}

/// The pods' addresses on the node at `place`, as the controller manager gives them out: in order.
fn pods(place: Place) -> String {
    format!("10.244.{}.0/24", place.number())
}

/// Shell commands that give the machine at `from` a way to the one at `to` and its pods, by the card that both have
/// besides ([`Place::second_mac`]); they end with a status that says whether. Both keep the addresses by which they are
/// known.
#[must_use]
pub fn way(from: Place, to: Place) -> String {
    let (mac, own, other, pods) = (from.second_mac(), from.address(), to.address(), pods(to));
    format!(
        "card=$(grep -l -i {mac} /sys/class/net/*/address | cut -d / -f 5 | head -n 1)\n\
         test -n \"$card\" || echo \"no card {mac}\" >&2\n\
         test -n \"$card\" && ip link set dev \"$card\" up &&\n\
         ip route replace {other}/32 dev \"$card\" src {own} &&\n\
         ip route replace {pods} via {other} dev \"$card\" onlink"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expect::Expectations;
    use crate::metadata::Cloud;

    /// What kubeadm prints, but for the fingerprint.
    const ANSWER: &str = "kubeadm join 10.0.2.15:6443 --token abcdef.0123456789abcdef     \
                          --discovery-token-ca-cert-hash HASH \n";

    fn plan(answer: &str) -> Result<JoinPlan> {
        let kubernetes = Some("1.30.1".parse().unwrap());
        let expect = Expectations { kubernetes, ..Expectations::default() };
        let cluster = KubeadmPlan::of(&expect, Cloud::NoCloud).unwrap().unwrap();
        let hash = cluster.authorities.fingerprint();
        JoinPlan::of(&cluster, &answer.replace("HASH", &hash))
    }

    #[test]
    fn a_cluster_with_another_authority_than_it_was_handed_is_not_joined() {
        let failure = plan(&ANSWER.replace("HASH", "sha256:0011")).unwrap_err();
        assert!(failure.to_string().contains("authority is sha256:0011, and sha256:"), "{failure}");
    }

    #[test]
    fn what_kubeadm_prints_becomes_the_configuration_and_the_token_is_not_shown() {
        let plan = plan(ANSWER).unwrap();
        let text = plan.configuration();
        for words in [
            "kubeadm.k8s.io/v1beta3\nkind: JoinConfiguration\n",
            "    apiServerEndpoint: 10.0.2.15:6443\n    token: abcdef.0123456789abcdef\n",
            &format!("      - {}\n", plan.ca_hash),
            "unix:///run/containerd/containerd.sock\n  name: '{{ ds.meta_data.local_hostname }}'",
        ] {
            assert!(text.contains(words), "{words} in\n{text}");
        }
        assert!(!format!("{plan:?}").contains("abcdef"));
    }

    #[test]
    fn an_answer_that_lacks_something_or_is_more_than_words_is_refused_without_its_text() {
        for answer in ["", &ANSWER.replace("--token", "--tok"), &ANSWER.replace("abcdef", "a'{{b")]
        {
            let failure = plan(answer).unwrap_err();
            assert!(!failure.to_string().contains("0123456789"), "{failure}");
        }
    }

    #[test]
    fn the_clone_gives_its_pods_other_addresses_than_the_first_node_and_joins_last() {
        let plan = plan(ANSWER).unwrap();
        let files = plan.files(Place::CLONE);
        let network = &files.iter().find(|file| file.path.ends_with(".conflist")).unwrap().content;
        assert!(
            network.contains("\"10.244.1.0/24\"") && !network.contains("10.244.0."),
            "{network}"
        );
        let commands = plan.commands(Place::CLONE);
        assert_eq!(commands[0], way(Place::CLONE, Place::FIRST));
        let join = commands.last().unwrap();
        let configuration = &files.iter().find(|file| join.contains(file.path)).unwrap().content;
        assert!(configuration.contains("kind: JoinConfiguration"), "{join}");
        assert!(join.ends_with(&format!("&& echo success > {}", kubeadm::SENTINEL)), "{join}");
    }

    #[test]
    fn a_shell_takes_the_way_which_leads_to_the_other_and_its_pods() {
        let there = way(Place::CLONE, Place::FIRST);
        assert!(
            there.contains("10.0.2.15/32 dev") && there.contains("10.244.0.0/24 via 10.0.2.15")
        );
        let back = way(Place::FIRST, Place::CLONE);
        assert!(back.contains("10.0.3.15/32 dev") && back.contains("10.244.1.0/24 via 10.0.3.15"));
        for script in [there, back] {
            let status = std::process::Command::new("sh").args(["-n", "-c", &script]).status();
            assert!(status.unwrap().success(), "{script}");
        }
    }
}
