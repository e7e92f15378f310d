//! Which containerd serves which kubelet.

use nodekiln_recipes::recipe::Version;
use nodekiln_words::Result;

use crate::at_rest::Examined;
use crate::rules::Verdict;
use crate::tree::containerd::Release;

/// A version of CRI, the releases of containerd that serve it and the minor versions of Kubernetes whose kubelet
/// speaks it, first and last.
struct Cri {
    name: &'static str,
    containerd: (Release, Release),
    kubelet: (u32, u32),
}

const fn release(major: u32, minor: u32) -> Release {
    Release { major, minor }
}

/// containerd 1.6 brought v1 and 2.0 dropped v1alpha2; kubelet 1.23 brought v1 and 1.26 dropped v1alpha2.
const CRI: [Cri; 2] = [
    Cri { name: "v1alpha2", containerd: (release(1, 0), release(1, 7)), kubelet: (7, 25) },
    Cri { name: "v1", containerd: (release(1, 6), release(u32::MAX, 0)), kubelet: (23, u32::MAX) },
];

pub(super) fn runtime_fits(examined: &Examined) -> Result<Verdict> {
    let Some(containerd) = Release::of(&examined.tree)? else {
        let text = "containerd's version cannot be told: no package brought it, and its program does not say";
        return Ok(Verdict::NotProven(text.to_owned()));
    };
    let Some(kubernetes) = examined.facts.kubernetes else {
        return Ok(Verdict::NotProven("the version of Kubernetes cannot be told".to_owned()));
    };
    Ok(judged(containerd, kubernetes))
}

fn judged(containerd: Release, kubernetes: Version) -> Verdict {
    let Version { major, minor, .. } = kubernetes;
    let spoken = |cri: &&Cri| (cri.kubelet.0..=cri.kubelet.1).contains(&minor) && major == 1;
    let served = |cri: &&Cri| (cri.containerd.0..=cri.containerd.1).contains(&containerd);
    let names = |which: &dyn Fn(&&Cri) -> bool| {
        let names: Vec<&str> = CRI.iter().filter(|cri| which(cri)).map(|cri| cri.name).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(" and ") }
    };
    match CRI.iter().filter(served).find(spoken) {
        Some(_) => {
            let both = names(&|cri| served(cri) && spoken(cri));
            Verdict::Pass(format!(
                "containerd {containerd} and kubelet {kubernetes} speak CRI {both}"
            ))
        }
        None => Verdict::Fail(format!(
            "containerd {containerd} serves CRI {}, and kubelet {kubernetes} speaks {}",
            names(&served),
            names(&spoken)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_at_the_edges_of_the_table_is_judged() {
        let fits = |containerd, minor| {
            let kubernetes = Version { major: 1, minor, patch: 0 };
            matches!(judged(containerd, kubernetes), Verdict::Pass(_))
        };
        for (containerd, from, to) in [
            (release(1, 5), 20, 25),
            (release(1, 6), 20, 36),
            (release(1, 7), 20, 36),
            (release(2, 0), 23, 36),
        ] {
            for minor in 20..=36 {
                let expected = (from..=to).contains(&minor);
                assert_eq!(fits(containerd, minor), expected, "{containerd} with 1.{minor}");
            }
        }
    }
}
