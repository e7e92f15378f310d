//! Rules on the container images that lie in containerd's store before the first boot.

#[cfg(test)]
mod mutations;
mod store;
mod told;

use nodekiln_recipes::kubernetes_images::{Listing, default_repository, listing, pause};
use nodekiln_words::Result;

#[cfg(test)]
pub(super) use mutations::{MUTATIONS, fill};

use super::{Examined, findings};
use crate::Tier;
use crate::expect::name_of;
use crate::rules::{Applies, Judge, Rule, Severity, Software, Verdict};
use crate::tree::containerd::Settings;
use store::{Absent, Store, short};
pub(super) use told::told;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "images-listed",
        title: "The store has the images that kubeadm asks for, whole, and no others",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &[
            "containerd's meta.db, namespace k8s.io",
            "manifests, and sizes of blobs, of its content store",
        ],
        why: "a node without a way out pulls nothing: what kubeadm asks for has to be there, by its very tag",
        remedy: "preload what `kubeadm config images list` of the image's own kubeadm prints",
        source: "kubeadm preflight ImagePull; kubeadm config images list",
        applies: Applies::with(&[Software::Kubernetes, Software::Containerd]),
        stops_boot: false,
        judge: Judge::Tree(images_listed),
    },
    Rule {
        id: "images-claimed",
        title: "The store has the images that the manifest claims, by their digests",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &["manifest.json", "containerd's meta.db, namespace k8s.io"],
        why: "a tag can be moved: only the digest says that it is the image that was built or fetched",
        remedy: "build the image again; or take the manifest of the same build",
        source: "manifest.json, `expect.images`",
        applies: Applies::with(&[Software::Containerd]),
        stops_boot: false,
        judge: Judge::Tree(images_claimed),
    },
    Rule {
        id: "sandbox-image",
        title: "containerd's sandbox image is kubeadm's pause, and is there",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &[
            "/etc/containerd/config.toml and its imports",
            "containerd's meta.db, namespace k8s.io",
        ],
        why: "no pod starts without its sandbox, and an unset or wrong image is pulled, or cannot be",
        remedy: "set it to the pause of `kubeadm config images list`, in the section that this containerd reads",
        source: "containerd, docs/cri/config.md; kubernetes#129479",
        applies: Applies::with(&[Software::Kubernetes, Software::Containerd]),
        stops_boot: false,
        judge: Judge::Tree(sandbox_image),
    },
];

fn images_listed(examined: &Examined) -> Result<Verdict> {
    let Some(version) = examined.facts.kubernetes else {
        return Ok(Verdict::NotProven("the version of Kubernetes cannot be told".to_owned()));
    };
    let known = repository(examined).and_then(|repository| listing(version, &repository));
    let Some(Listing { names: wanted, open }) = known else {
        let text = format!(
            "which images kubeadm {version} asks for is not in the table: its own list would tell"
        );
        return Ok(Verdict::NotProven(text));
    };
    let settings = Settings::of(&examined.tree)?;
    let store = match Store::of(&examined.tree, &settings)? {
        Ok(store) => store,
        Err(absent) => return Ok(absent.verdict()),
    };
    let (mut wrong, mut known) = (Vec::new(), Vec::new());
    for name in &wanted {
        match examined.expect.unavailable(name_of(name)) {
            Some(reason) if store.image(name).is_none() => known.push(format!("{name}: {reason}")),
            _ => wrong.extend(store.lacks(name)?),
        }
    }
    // Of some a patch release may have this tag or that: one has to be there.
    let is_of = |name: &str, untagged: &str| {
        name.strip_prefix(untagged).is_some_and(|tag| tag.starts_with(':'))
    };
    for untagged in &open {
        match store.tagged().iter().any(|name| is_of(name, untagged)) {
            true => known.push(format!("which tag of {untagged} it asks for is not certain")),
            false => wrong.push(format!("{} has no {untagged} of any tag", store.path)),
        }
    }
    // What is there besides has been asked for by somebody, or only takes room.
    let asked_for = |name: &&str| {
        wanted.iter().any(|wanted| wanted == name)
            || open.iter().any(|untagged| is_of(name, untagged))
            || examined.expect.images.contains_key(*name)
    };
    let others = store.tagged().into_iter().filter(|name| examined.claimed && !asked_for(name));
    wrong.extend(others.map(|name| {
        format!("{}: {name} is what neither kubeadm nor the manifest asks for", store.path)
    }));
    if wrong.is_empty() && !known.is_empty() {
        return Ok(Verdict::NotProven(known.join("; ")));
    }
    Ok(findings::verdict(&wrong, format!("{}: {} images of {version}", store.path, wanted.len())))
}

fn images_claimed(examined: &Examined) -> Result<Verdict> {
    let claims = &examined.expect.images;
    if claims.is_empty() {
        return Ok(match examined.claimed {
            true => Verdict::Skipped("the manifest claims no images".to_owned()),
            false => Verdict::NotProven("no manifest says which images it should have".to_owned()),
        });
    }
    let settings = Settings::of(&examined.tree)?;
    let store = match Store::of(&examined.tree, &settings)? {
        Ok(store) => store,
        Err(absent) => return Ok(absent.verdict()),
    };
    let of_kubeadm = repository(examined).zip(examined.facts.kubernetes);
    let of_kubeadm = of_kubeadm.and_then(|(repository, version)| listing(version, &repository));
    let mut wrong = Vec::new();
    for (name, digest) in claims {
        let claimed = format!("sha256:{digest}");
        match store.image(name) {
            None => wrong.push(format!("{} has no {name}", store.path)),
            Some(target) if target.digest != claimed => {
                let (found, claimed) = (short(&target.digest), short(&claimed));
                wrong.push(format!("{}: {name} is {found}, not {claimed}", store.path));
            }
            // Whether those of kubeadm's list are whole, the rule on that says.
            Some(_) if of_kubeadm.as_ref().is_some_and(|listed| listed.names.contains(name)) => {}
            Some(_) => wrong.extend(store.lacks(name)?),
        }
    }
    Ok(findings::verdict(&wrong, format!("{}: {} images by digest", store.path, claims.len())))
}

fn sandbox_image(examined: &Examined) -> Result<Verdict> {
    let settings = Settings::of(&examined.tree)?;
    let path = settings.path();
    let Some(image) = &settings.sandbox_image else {
        let text =
            format!("{path} sets no sandbox image: the one that containerd has built in counts");
        return Ok(Verdict::Fail(text));
    };
    let own = examined.facts.kubernetes.zip(repository(examined));
    let own = own.and_then(|(version, repository)| pause(version, &repository));
    let mut wrong = Vec::new();
    if let Some(own) = own.as_ref().filter(|own| *own != image) {
        wrong.push(format!("{path}: the sandbox image is {image}, and kubeadm's is {own}"));
    }
    match Store::of(&examined.tree, &settings)? {
        Ok(store) if store.image(image).is_none() => {
            wrong.push(format!("{} has no {image}, which {path} names", store.path));
        }
        Ok(_) => {}
        Err(absent) => wrong.push(absent.told()),
    }
    if own.is_none() && wrong.is_empty() {
        let text = format!(
            "{path}: {image}, which is there; kubeadm's own pause is not known for this version"
        );
        return Ok(Verdict::NotProven(text));
    }
    Ok(findings::verdict(&wrong, format!("{path}: {image}")))
}

/// Where kubeadm takes its images from: what the image claims, or the default of its version.
fn repository(examined: &Examined) -> Option<String> {
    let claimed = examined.expect.image_repository.clone();
    claimed.or_else(|| Some(default_repository(examined.facts.kubernetes?).to_owned()))
}

impl Absent {
    fn told(self) -> String {
        match self {
            Self::Missing(path) => format!("there is no {path}: nothing is preloaded"),
            Self::Damaged(told) => told,
        }
    }

    fn verdict(self) -> Verdict {
        Verdict::Fail(self.told())
    }
}

#[cfg(test)]
mod tests {
    use nodekiln_recipes::recipe::Version;

    use super::*;
    use crate::at_rest::corpus::sound;
    use crate::rules::Family;

    #[test]
    fn a_version_that_is_not_in_the_table_is_not_judged_by_a_guess() {
        let mut examined = sound(Family::Debian);
        examined.facts.kubernetes = Some(Version { major: 1, minor: 37, patch: 0 });
        for judge in [images_listed, sandbox_image] {
            let verdict = judge(&examined).unwrap();
            assert!(matches!(verdict, Verdict::NotProven(_)), "{verdict:?}");
        }
    }

    #[test]
    fn every_minor_of_the_table_is_judged_by_its_own_list() {
        for (minor, patch) in
            [(21, 14), (24, 9), (28, 15), (31, 14), (33, 3), (34, 10), (35, 2), (36, 4)]
        {
            let mut examined = sound(Family::Debian);
            examined.facts.kubernetes = Some(Version { major: 1, minor, patch });
            for judge in [images_listed, sandbox_image] {
                let verdict = judge(&examined).unwrap();
                assert!(matches!(verdict, Verdict::Fail(_)), "1.{minor}.{patch}: {verdict:?}");
            }
            fill(&mut examined);
            for judge in [images_listed, images_claimed, sandbox_image] {
                let verdict = judge(&examined).unwrap();
                assert!(matches!(verdict, Verdict::Pass(_)), "1.{minor}.{patch}: {verdict:?}");
            }
        }
    }

    #[test]
    fn a_tag_that_is_not_certain_is_not_proven_and_none_at_all_is_red() {
        let mut examined = sound(Family::Debian);
        examined.facts.kubernetes = Some(Version { major: 1, minor: 33, patch: 6 });
        fill(&mut examined);
        let verdict = images_listed(&examined).unwrap();
        let words = "which tag of registry.k8s.io/etcd";
        assert!(matches!(&verdict, Verdict::NotProven(why) if why.contains(words)), "{verdict:?}");
        mutations::forget(&mut examined, "registry.k8s.io/etcd:any");
        let verdict = images_listed(&examined).unwrap();
        assert!(
            matches!(&verdict, Verdict::Fail(why) if why.contains("no registry.k8s.io/etcd of any tag")),
            "{verdict:?}"
        );
    }

    #[test]
    fn an_image_that_could_not_be_had_is_not_proven_and_others_still_are_red() {
        let mut examined = sound(Family::Debian);
        let coredns = "k8s.gcr.io/coredns:1.7.0";
        mutations::forget(&mut examined, coredns);
        examined.expect.images.remove(coredns);
        examined.expect.unavailable_images.insert("coredns".into(), "Debian has none".into());
        let verdict = images_listed(&examined).unwrap();
        assert!(
            matches!(&verdict, Verdict::NotProven(seen) if seen.contains("Debian has none")),
            "{verdict:?}"
        );
        mutations::forget(&mut examined, "k8s.gcr.io/etcd:3.4.13-0");
        let verdict = images_listed(&examined).unwrap();
        assert!(
            matches!(&verdict, Verdict::Fail(seen) if seen.contains("no k8s.gcr.io/etcd")),
            "{verdict:?}"
        );
    }

    #[test]
    fn what_the_manifest_claims_besides_is_no_stray() {
        let mut examined = sound(Family::Debian);
        let digest = mutations::store_image(&mut examined.tree, "r.example/agent:1", "agent");
        assert!(matches!(images_listed(&examined).unwrap(), Verdict::Fail(_)));
        examined.expect.images.insert("r.example/agent:1".into(), digest);
        for judge in [images_listed, images_claimed] {
            let verdict = judge(&examined).unwrap();
            assert!(matches!(verdict, Verdict::Pass(_)), "{verdict:?}");
        }
    }

    #[test]
    fn an_index_may_lack_other_platforms_and_not_all() {
        let mut examined = sound(Family::Debian);
        let digest = mutations::store_index(&mut examined.tree, "k8s.gcr.io/pause:3.2");
        examined.expect.images.insert("k8s.gcr.io/pause:3.2".into(), digest);
        let verdict = images_listed(&examined).unwrap();
        assert!(matches!(verdict, Verdict::Pass(_)), "{verdict:?}");
    }
}
