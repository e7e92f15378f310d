//! Whether kubelet and containerd make pods' cgroups by the same driver.

use nodekiln_recipes::recipe::Version;
use nodekiln_words::Result;
use serde::Deserialize;

use crate::at_rest::Examined;
use crate::rules::Verdict;
use crate::tree::Tree;
use crate::tree::containerd::{CONFIG, Release, Settings};
use crate::tree::units::Units;

/// The kubelet's own configuration. kubeadm writes it, so that an image has it only where somebody put it there.
const KUBELET_CONFIG: &str = "/var/lib/kubelet/config.yaml";
const FLAG: &str = "--cgroup-driver";
/// From this version on kubeadm fills in `systemd` (kubernetes#99471, kubernetes#102133).
const KUBEADM_FILLS_IN: (u32, u32) = (1, 21);
/// From these on the kubelet asks its runtime (KEP-4033, `KubeletCgroupDriverFromCRI`).
const KUBELET_ASKS: (u32, u32) = (1, 31);
const CONTAINERD_ANSWERS: Release = Release { major: 2, minor: 0 };

pub(super) fn agrees(examined: &Examined) -> Result<Verdict> {
    let tree = &examined.tree;
    let Some(version) = examined.facts.kubernetes else {
        return Ok(Verdict::NotProven("the version of Kubernetes cannot be told".to_owned()));
    };
    let settings = Settings::of(tree)?;
    let own = (version.major, version.minor);
    if own >= KUBELET_ASKS && settings.release.is_some_and(|release| release >= CONTAINERD_ANSWERS)
    {
        return Ok(Verdict::Pass(format!("kubelet {version} asks containerd for its driver")));
    }
    let Some(runtime) = settings.runtime() else {
        let (path, name) = (settings.path(), &settings.default_runtime);
        return Ok(Verdict::Fail(format!(
            "{path}: there is no runtime {name}, which pods get by default"
        )));
    };
    let containerd = if runtime.systemd_cgroup { "systemd" } else { "cgroupfs" };
    let (kubelet, by) = kubelet(tree, version)?;
    let path = settings.files.first().map_or("containerd's default", |_| CONFIG);
    let told =
        format!("containerd has {containerd} ({path}), kubelet {version} has {kubelet} ({by})");
    Ok(if kubelet == containerd { Verdict::Pass(told) } else { Verdict::Fail(told) })
}

/// The kubelet's driver, and by what it has it: a flag before its file, its file before what kubeadm and kubelet do
/// when nobody says.
fn kubelet(tree: &Tree, version: Version) -> Result<(String, String)> {
    if let Some(found) = flag(tree)? {
        return Ok(found);
    }
    if let Some(text) = tree.text(KUBELET_CONFIG)? {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Configuration {
            cgroup_driver: Option<String>,
        }
        if let Ok(Configuration { cgroup_driver: Some(driver) }) = serde_saphyr::from_str(&text) {
            return Ok((driver, KUBELET_CONFIG.to_owned()));
        }
    }
    let filled = (version.major, version.minor) >= KUBEADM_FILLS_IN;
    let driver = if filled { "systemd" } else { "cgroupfs" };
    Ok((driver.to_owned(), format!("the default of {}.{}", version.major, version.minor)))
}

/// The driver that a flag in the kubelet's unit, its drop-ins or the files that these name gives it.
fn flag(tree: &Tree) -> Result<Option<(String, String)>> {
    let Some(unit) = Units::of(tree).unit("kubelet.service")? else { return Ok(None) };
    let mut texts: Vec<(String, String)> = Vec::new();
    texts.extend(
        unit.values("Service", "ExecStart").iter().map(|set| (set.place(), set.value.clone())),
    );
    let variables = unit.environment();
    texts.extend(variables.iter().map(|(_, value, set)| (set.place(), value.clone())));
    for path in unit.environment_files() {
        let text = tree.text(path)?.unwrap_or_default();
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        texts.extend(lines.map(|line| (path.to_owned(), line.to_owned())));
    }
    // The last one counts.
    Ok(texts.into_iter().rev().find_map(|(place, text)| {
        let at = text.rfind(FLAG)? + FLAG.len();
        let value = text[at..].trim_start_matches(['=', ' ']);
        let end = value.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(value.len());
        Some((value[..end].to_owned(), place))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::at_rest::corpus::sound;
    use crate::rules::Family;

    fn judged(minor: u32, change: fn(&mut Tree)) -> Verdict {
        let mut examined = sound(Family::Debian);
        examined.facts.kubernetes = Some(Version { major: 1, minor, patch: 0 });
        change(&mut examined.tree);
        agrees(&examined).unwrap()
    }

    fn systemd(tree: &mut Tree) {
        tree.replace(CONFIG, "SystemdCgroup = false", "SystemdCgroup = true");
    }

    #[test]
    fn the_default_moved_with_1_21() {
        assert!(matches!(judged(20, |_| ()), Verdict::Pass(_)));
        assert!(matches!(judged(20, systemd), Verdict::Fail(_)));
        assert!(matches!(judged(21, |_| ()), Verdict::Fail(_)));
        assert!(matches!(judged(21, systemd), Verdict::Pass(_)));
    }

    #[test]
    fn a_late_kubelet_asks_a_late_containerd_and_no_other() {
        assert!(matches!(judged(34, |_| ()), Verdict::Fail(_)));
        let late: fn(&mut Tree) = |tree| {
            tree.replace("/var/lib/dpkg/status", "1.6.20~ds1-1+deb12u3", "2.1.4~ds1-1");
        };
        assert!(
            matches!(judged(34, late), Verdict::Pass(seen) if seen.contains("asks containerd"))
        );
        assert!(matches!(judged(30, late), Verdict::Fail(_)));
    }

    #[test]
    fn a_flag_counts_before_a_file_and_a_file_before_the_default() {
        let file: fn(&mut Tree) = |tree| {
            systemd(tree);
            tree.write(
                KUBELET_CONFIG,
                0o644,
                "kind: KubeletConfiguration\ncgroupDriver: systemd\n",
            );
        };
        assert!(matches!(judged(20, file), Verdict::Pass(seen) if seen.contains(KUBELET_CONFIG)));
        let both: fn(&mut Tree) = |tree| {
            tree.write(KUBELET_CONFIG, 0o644, "cgroupDriver: systemd\n");
            let text = "[Service]\nEnvironment=\"KUBELET_EXTRA_ARGS=--v=2 --cgroup-driver cgroupfs --x\"\n";
            tree.write("/etc/systemd/system/kubelet.service.d/90-x.conf", 0o644, text);
        };
        assert!(matches!(judged(20, both), Verdict::Pass(seen) if seen.contains("90-x.conf")));
    }
}
