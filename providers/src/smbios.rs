//! What a machine's firmware says of it (SMBIOS, types 0 to 3), with ids that are derived and not drawn.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// SMBIOS strings of a machine; an empty one stays as the emulator has it.
///
/// Strings may hold placeholders for the machine's own id:
///
/// | placeholder | stands for |
/// |---|---|
/// | `{uuid}` | the UUID, in lower case |
/// | `{hex}` | its 32 digits, in upper case |
/// | `{pairs}` | its 16 bytes as VMware writes them: `56 4d … 3d-ed … 72` |
/// | `{tail}` | its last 17 digits, the length of the ids that EC2 gives |
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Smbios {
    /// The machine's UUID.
    pub uuid: UuidRule,
    /// Type 0, the firmware.
    pub bios: Bios,
    /// Type 1, the system.
    pub system: System,
    /// Type 2, the main board.
    pub board: Board,
    /// Type 3, the chassis.
    pub chassis: Chassis,
}

/// How a machine's UUID is found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UuidRule {
    /// The emulator's own.
    #[default]
    Unset,
    /// Derived.
    Derived,
    /// Derived, and then begun with these hexadecimal digits, at most eight.
    BeginsWith(String),
}

/// Type 0, the firmware.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Bios {
    /// `/sys/class/dmi/id/bios_vendor`.
    pub vendor: String,
}

/// Type 1, the system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct System {
    /// `/sys/class/dmi/id/sys_vendor`.
    pub manufacturer: String,
    /// `/sys/class/dmi/id/product_name`.
    pub product: String,
    /// `/sys/class/dmi/id/product_version`.
    pub version: String,
    /// `/sys/class/dmi/id/product_serial`.
    pub serial: String,
}

/// Type 2, the main board.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Board {
    /// `/sys/class/dmi/id/board_vendor`.
    pub manufacturer: String,
    /// `/sys/class/dmi/id/board_name`.
    pub product: String,
    /// `/sys/class/dmi/id/board_serial`.
    pub serial: String,
    /// `/sys/class/dmi/id/board_asset_tag`.
    pub asset: String,
}

/// Type 3, the chassis.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Chassis {
    /// `/sys/class/dmi/id/chassis_vendor`.
    pub manufacturer: String,
    /// `/sys/class/dmi/id/chassis_serial`.
    pub serial: String,
    /// `/sys/class/dmi/id/chassis_asset_tag`.
    pub asset: String,
}

/// The fields of one type that are given, each with its name in QEMU's option.
pub type Fields = Vec<(&'static str, String)>;

impl Smbios {
    /// Whether everything stays as the emulator has it.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        *self == Self::default()
    }

    /// The UUID of the machine whose ids are derived from `seed`, where there is a rule for it.
    #[must_use]
    pub fn uuid_of(&self, seed: Uuid) -> Option<Uuid> {
        let derived = Uuid::new_v5(&seed, b"machine");
        match &self.uuid {
            UuidRule::Unset => None,
            UuidRule::Derived => Some(derived),
            UuidRule::BeginsWith(digits) => {
                let own = derived.simple().to_string();
                let rest = own.get(digits.len()..).unwrap_or_default();
                Uuid::try_parse(&format!("{digits}{rest}")).ok()
            }
        }
    }

    /// The fields of the types 0, 1, 2 and 3, in this order, for the machine whose ids are derived from
    /// `seed`.
    #[must_use]
    pub fn fields(&self, seed: Uuid) -> [(u8, Fields); 4] {
        let fill = |(name, text): (&'static str, String)| (name, self.fill(&text, seed));
        self.as_written().map(|(kind, fields)| (kind, fields.into_iter().map(fill).collect()))
    }

    /// As [`Smbios::fields`], with the placeholders that stand for ids.
    #[must_use]
    pub fn as_written(&self) -> [(u8, Fields); 4] {
        let Self { uuid: _, bios, system, board, chassis } = self;
        let own = |fields: &[(&'static str, &String)]| -> Fields {
            let given = fields.iter().filter(|(_, text)| !text.is_empty());
            given.map(|(name, text)| (*name, (*text).clone())).collect()
        };
        let bios = own(&[("vendor", &bios.vendor)]);
        let system = own(&[
            ("manufacturer", &system.manufacturer),
            ("product", &system.product),
            ("version", &system.version),
            ("serial", &system.serial),
        ]);
        let board = own(&[
            ("manufacturer", &board.manufacturer),
            ("product", &board.product),
            ("serial", &board.serial),
            ("asset", &board.asset),
        ]);
        let chassis = own(&[
            ("manufacturer", &chassis.manufacturer),
            ("serial", &chassis.serial),
            ("asset", &chassis.asset),
        ]);
        [(0, bios), (1, system), (2, board), (3, chassis)]
    }

    /// `text` with its placeholders filled in for the machine whose ids are derived from `seed`.
    #[must_use]
    pub fn fill(&self, text: &str, seed: Uuid) -> String {
        let uuid = self.uuid_of(seed).unwrap_or_default();
        let hex = uuid.simple().to_string();
        let pairs: Vec<String> = uuid.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let (first, second) = pairs.split_at(8);
        text.replace("{uuid}", &uuid.hyphenated().to_string())
            .replace("{hex}", &hex.to_uppercase())
            .replace("{pairs}", &format!("{}-{}", first.join(" "), second.join(" ")))
            .replace("{tail}", hex.get(15..).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: Uuid = Uuid::from_u128(7);

    fn ruled(uuid: UuidRule) -> Smbios {
        Smbios { uuid, ..Smbios::default() }
    }

    #[test]
    fn a_uuid_is_derived_and_begins_as_it_has_to() {
        assert_eq!(ruled(UuidRule::Unset).uuid_of(SEED), None);
        let derived = ruled(UuidRule::Derived).uuid_of(SEED).unwrap();
        assert_ne!(derived, ruled(UuidRule::Derived).uuid_of(Uuid::from_u128(8)).unwrap());
        let ec2 = ruled(UuidRule::BeginsWith("ec2".to_owned())).uuid_of(SEED).unwrap();
        assert!(ec2.to_string().starts_with("ec2"), "{ec2}");
        assert_eq!(ec2.to_string().get(3..), derived.to_string().get(3..));
    }

    #[test]
    fn placeholders_are_forms_of_the_uuid() {
        let smbios = ruled(UuidRule::Derived);
        let uuid = smbios.uuid_of(SEED).unwrap();
        assert_eq!(smbios.fill("a {uuid} b", SEED), format!("a {uuid} b"));
        let hex = smbios.fill("{hex}", SEED);
        assert_eq!(hex.to_lowercase(), uuid.simple().to_string());
        assert_eq!(hex.to_uppercase(), hex);
        let pairs = smbios.fill("{pairs}", SEED);
        assert_eq!((pairs.len(), pairs.as_bytes()[23]), (47, b'-'), "{pairs}");
        assert_eq!(pairs.replace([' ', '-'], ""), hex.to_lowercase());
        assert_eq!(smbios.fill("i-{tail}", SEED).len(), 19);
    }

    #[test]
    fn what_is_not_given_is_not_said() {
        let chassis = Chassis { asset: "tag".to_owned(), ..Chassis::default() };
        let smbios = Smbios { chassis, ..Smbios::default() };
        let [bios, system, board, chassis] = smbios.fields(SEED);
        assert_eq!((bios, system, board), ((0, vec![]), (1, vec![]), (2, vec![])));
        assert_eq!(chassis, (3, vec![("asset", "tag".to_owned())]));
    }
}
