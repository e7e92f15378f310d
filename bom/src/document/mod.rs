//! The CycloneDX document, put together.

mod binaries;
mod dependencies;
mod files;
mod groups;
mod images;
mod model;
mod packages;

use std::collections::{BTreeMap, BTreeSet};

use nodekiln_recipes::inventory::TreeReader;
use nodekiln_words::{Class, Failure, Result, ResultExt as _};
use uuid::Uuid;

use crate::attribution::{Attribution, attribute, image_refs};
use crate::dpkg::Database;
use crate::input::{Artifact, BomInput, Shipped};
use crate::packages::{Known, join};
use files::ByOwner;
use model::{Bom, Component, Composition, Hash, Kind, Lifecycle, Metadata, Tools};
pub(crate) use model::{License, LicenseChoice};

/// Everything found out about a tree.
pub(crate) struct Findings<'a> {
    packages: Vec<Known<'a>>,
    /// References by path.
    binaries: BTreeMap<&'a str, String>,
    attribution: Attribution,
}

/// Reads the tree: packages joined with the lock, binaries found, every file attributed. Hands the
/// findings on, because they borrow from the database.
pub(crate) fn with_findings<T>(
    input: &BomInput<'_>,
    tree: &dyn TreeReader,
    then: impl FnOnce(Findings<'_>) -> Result<T>,
) -> Result<T> {
    let database = Database::read(tree, input.inventory)?;
    let packages = join(&database, input)?;
    let mut binaries = BTreeMap::new();
    for binary in &input.binaries {
        let reference = binaries::reference(binary, input.inventory)?;
        binaries.insert(binary.path.as_str(), reference);
    }
    let attribution = attribute(input, &database, &packages, &binaries, tree)?;
    then(Findings { packages, binaries, attribution })
}

impl Findings<'_> {
    /// The attribution alone.
    pub(crate) fn into_attribution(self) -> Attribution {
        self.attribution
    }
}

/// A document that lacks what was shipped.
#[derive(Debug)]
pub struct Draft {
    bom: Bom,
    /// The namespace of the serial number.
    seed: Uuid,
}

impl Draft {
    /// All that the tree says.
    pub(crate) fn of(
        input: &BomInput<'_>,
        findings: &Findings<'_>,
        tree: &dyn TreeReader,
    ) -> Result<Self> {
        Ok(Self { bom: bom(input, findings, tree)?, seed: input.seed })
    }

    /// The document with what was shipped: canonical JSON with a serial number derived from all the
    /// rest of it.
    ///
    /// # Errors
    /// [`Class::Input`] where two parts of the image, such as two artifacts, have one name.
    pub fn with(self, shipped: &Shipped) -> Result<Vec<u8>> {
        let Self { mut bom, seed } = self;
        bom.metadata.component.ship(shipped);
        check_references(&bom)?;
        let without = serialise(&bom)?;
        let serial = Uuid::new_v5(&seed, &without);
        bom.serial_number = Some(format!("urn:uuid:{serial}"));
        serialise(&bom)
    }
}

fn serialise(bom: &Bom) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(bom)
        .or_fail(Class::Io, || "cannot write the bill of materials as JSON".to_owned())?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn bom(input: &BomInput<'_>, findings: &Findings<'_>, tree: &dyn TreeReader) -> Result<Bom> {
    let mut held = files::by_owner(&findings.attribution, input.inventory, input.with_files);
    let resolved = dependencies::resolve(&findings.packages);
    let image = image(input);
    let root = image.bom_ref.clone().unwrap_or_default();

    let mut components = Vec::new();
    for known in &findings.packages {
        let held = held.remove(known.purl.as_str()).unwrap_or_default();
        let missing = findings.attribution.missing.get(&known.purl).copied().unwrap_or_default();
        let unmet = resolved.unmet.get(&known.purl).map(Vec::as_slice).unwrap_or_default();
        components.push(packages::component(known, held, missing, unmet, tree)?);
    }
    let mut needs = resolved.needs;
    let others = others(input, findings, &mut held, tree, &mut components)?;
    needs.insert(root.clone(), roots(findings).chain(others.references).collect());
    let parts_known = input.with_files && findings.attribution.unknown().next().is_none();
    let needs_known = parts_known && resolved.unmet.is_empty();
    components.extend(held.into_iter().map(|(owner, held)| groups::component(&owner, held)));
    components.sort_by(|a, b| a.bom_ref.cmp(&b.bom_ref));

    Ok(Bom {
        schema: "http://cyclonedx.org/schema/bom-1.6.schema.json",
        bom_format: "CycloneDX",
        components,
        compositions: compositions(&root, parts_known, needs_known, others.opaque),
        dependencies: dependencies::list(needs),
        metadata: metadata(input, &findings.attribution, image),
        serial_number: None,
        spec_version: "1.6",
        version: 1,
    })
}

/// References of the packages that are in the image for their own sake.
fn roots(findings: &Findings<'_>) -> impl Iterator<Item = String> {
    findings
        .packages
        .iter()
        .filter(|known| known.locked.requested || known.installed().essential)
        .map(|known| known.purl.clone())
}

/// Binaries and container images.
#[derive(Default)]
struct Others {
    references: Vec<String>,
    /// Those of which it is not known what they consist of.
    opaque: Vec<String>,
}

/// Adds binaries and container images to the components.
fn others(
    input: &BomInput<'_>,
    findings: &Findings<'_>,
    held: &mut ByOwner,
    tree: &dyn TreeReader,
    components: &mut Vec<Component>,
) -> Result<Others> {
    let mut others = Others::default();
    for binary in &input.binaries {
        let Some(reference) = findings.binaries.get(binary.path.as_str()) else { continue };
        let held = held.remove(reference.as_str()).unwrap_or_default();
        let component =
            binaries::component(binary, reference, held, input.inventory, input.lock, tree)?;
        if !binaries::says_its_modules(&component) {
            others.opaque.push(reference.clone());
        }
        components.push(component);
        others.references.push(reference.clone());
    }
    let image_refs = image_refs(&input.images, input.architecture.as_str());
    for (image, reference) in input.images.iter().zip(image_refs) {
        let held = held.remove(reference.as_str()).unwrap_or_default();
        components.push(images::component(image, &reference, held, input.inventory));
        others.opaque.push(reference.clone());
        others.references.push(reference);
    }
    Ok(others)
}

/// The image itself.
fn image(input: &BomInput<'_>) -> Component {
    Component {
        bom_ref: Some(format!("image:{}", input.image)),
        kind: Kind::OperatingSystem,
        name: input.image.clone(),
        version: Some(input.recipe_digest.short()),
        ..Component::default()
    }
    .with_properties(vec![
        ("recipe", input.recipe.clone()),
        ("recipe-digest", format!("sha256:{}", input.recipe_digest)),
        ("tree-digest", format!("sha256:{}", input.inventory.digest())),
    ])
}

impl Component {
    /// Adds the files that are shipped, and the digest that they share, to an image.
    fn ship(&mut self, what: &Shipped) {
        let mut artifacts: Vec<&Artifact> = what.artifacts.iter().collect();
        artifacts.sort();
        self.components = artifacts.into_iter().map(shipped).collect();
        self.hashes = what.payload.iter().map(Hash::from).collect();
    }
}

fn shipped(artifact: &Artifact) -> Component {
    Component {
        bom_ref: Some(format!("artifact:{}", artifact.name)),
        hashes: vec![Hash::from(&artifact.sha256)],
        kind: Kind::File,
        name: artifact.name.clone(),
        ..Component::default()
    }
    .with_properties(vec![
        ("format", artifact.format.clone()),
        ("size", artifact.size.get().to_string()),
    ])
}

fn metadata(input: &BomInput<'_>, attribution: &Attribution, image: Component) -> Metadata {
    let tool = Component {
        kind: Kind::Application,
        name: "nodekiln".to_owned(),
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        ..Component::default()
    };
    let counts = attribution.counts();
    let counts = counts.iter().map(|(kind, count)| (format!("files:{kind}"), count.to_string()));
    let counts: Vec<_> = counts.collect();
    let borrowed = counts.iter().map(|(name, count)| (name.as_str(), count.clone())).collect();
    Metadata {
        component: image,
        lifecycles: vec![Lifecycle { phase: "build" }],
        properties: Component::default().with_properties(borrowed).properties,
        timestamp: input.source_date.to_string(),
        tools: Tools { components: vec![tool] },
    }
}

/// What the document claims to know of the image at `root`: all parts, if every file is listed and
/// has an owner; all that they need, if besides no dependency is unmet; and nothing of what is
/// inside of those that are `opaque`.
fn compositions(
    root: &str,
    parts_known: bool,
    needs_known: bool,
    mut opaque: Vec<String>,
) -> Vec<Composition> {
    let root = || vec![root.to_owned()];
    let claim = |known| if known { "complete" } else { "incomplete" };
    let mut all = vec![Composition {
        aggregate: claim(parts_known),
        assemblies: root(),
        dependencies: if needs_known == parts_known { root() } else { Vec::new() },
    }];
    if needs_known != parts_known {
        let aggregate = claim(needs_known);
        all.push(Composition { aggregate, assemblies: Vec::new(), dependencies: root() });
    }
    opaque.sort();
    if !opaque.is_empty() {
        let dependencies = Vec::new();
        all.push(Composition { aggregate: "unknown", assemblies: opaque, dependencies });
    }
    all
}

/// References must be unique in a document, and those in dependencies must lead somewhere.
fn check_references(bom: &Bom) -> Result<()> {
    fn gather<'a>(component: &'a Component, seen: &mut BTreeSet<&'a str>) -> Result<()> {
        if let Some(reference) = &component.bom_ref
            && !seen.insert(reference)
        {
            return Err(Failure::input(format!(
                "two parts of the bill of materials are both `{reference}`"
            )));
        }
        component.components.iter().try_for_each(|part| gather(part, seen))
    }
    let mut seen = BTreeSet::new();
    gather(&bom.metadata.component, &mut seen)?;
    bom.components.iter().try_for_each(|component| gather(component, &mut seen))?;
    let needed = bom.dependencies.iter().flat_map(|d| d.depends_on.iter().chain([&d.reference]));
    match needed.into_iter().find(|reference| !seen.contains(reference.as_str())) {
        Some(reference) => {
            Err(Failure::input(format!("dependency `{reference}` is no part of the image")))
        }
        None => Ok(()),
    }
}
