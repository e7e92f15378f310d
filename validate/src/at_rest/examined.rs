//! What a rule on files is given.

use crate::Machine;
use crate::ds_identify::Edition;
use crate::expect::Expectations;
use crate::inspect::Partition;
use crate::provisioning::Part;
use crate::rules::Facts;
use crate::tree::Tree;

/// An image's files and what they are judged by.
#[derive(Clone)]
pub struct Examined<'a> {
    /// The files.
    pub tree: Tree<'a>,
    /// What is known of the image besides.
    pub facts: Facts,
    /// The image's claims.
    pub expect: Expectations,
    /// Whether a manifest made them; without one nothing is known of what the image should hold.
    pub claimed: bool,
    /// The machine that the image is judged for.
    pub machine: Machine,
    /// How its guest is told who it is; nothing where nobody here plays its cloud's part.
    pub(crate) part: Option<Part>,
    /// The partitions of its disk.
    pub(crate) partitions: Vec<Partition>,
    /// The edition of cloud-init's ds-identify, or why it is not known.
    pub(crate) edition: Result<Edition, String>,
}
