//! RPM's database.
//!
//! RPM 4.16 and later keep it in a file of SQLite; the formats before it, Berkeley DB's and RPM's own `ndb`, are
//! told and not read. The table `Packages` has a header a package.

use std::io::Cursor;

use nodekiln_words::{Class, Failure, Result, ResultExt as _};
use rusqlite::limits::Limit;
use rusqlite::{Connection, MAIN_DB};

use super::super::Files;
use super::{Packages, header};

/// Where a distribution keeps it; the first is that of Fedora and of its kin from 36 and 9 on, and SUSE's.
const FOLDERS: [&str; 2] = ["/usr/lib/sysimage/rpm", "/var/lib/rpm"];
/// The database of this format.
const SQLITE: &str = "rpmdb.sqlite";
/// Those of the others.
const OTHERS: [(&str, &str); 2] = [("Packages.db", "ndb"), ("Packages", "Berkeley DB")];
/// Most packages that are read: several times what a distribution has in all.
const MOST_PACKAGES: usize = 200_000;
/// Most bytes of a header.
const MOST_HEADER: i32 = 64 << 20;
/// The two bytes of SQLite's header that say how the file is written and read; 1 is by a journal that is rolled
/// back, 2 by a log that is written ahead (SQLite's "Database File Format", 1.3.3).
const MODES: std::ops::Range<usize> = 18..20;
const ROLLED_BACK: u8 = 1;
/// A file of SQLite begins so.
const MAGIC: &[u8] = b"SQLite format 3\0";

/// Reads the first database of `files` into `packages`.
pub(super) fn read(files: &dyn Files, packages: &mut Packages) -> Result<()> {
    for folder in FOLDERS {
        let path = format!("{folder}/{SQLITE}");
        if let Some(bytes) = files.read(&path)? {
            // What stands in the log is not in the file yet.
            let log = format!("{path}-wal");
            if files.read(&log)?.is_some_and(|log| !log.is_empty()) {
                packages.unread.push(format!("{log} has changes that are not in {path}"));
                return Ok(());
            }
            packages.installed.get_or_insert_default();
            return sqlite(bytes, packages).map_err(|failure| failure.context(path));
        }
        for (name, format) in OTHERS {
            let path = format!("{folder}/{name}");
            if files.exists(&path)? {
                packages
                    .unread
                    .push(format!("{path} is of the format {format}, which is not read"));
                return Ok(());
            }
        }
    }
    Ok(())
}

fn sqlite(mut bytes: Vec<u8>, packages: &mut Packages) -> Result<()> {
    let damaged = || "the database of packages is damaged".to_owned();
    match bytes.get_mut(MODES) {
        // A database in memory has no log. Without one the bytes are the same in either mode.
        Some(modes) => modes.fill(ROLLED_BACK),
        None => return Err(Failure::input("the database of packages is cut off")),
    }
    if !bytes.starts_with(MAGIC) {
        return Err(Failure::input("is no database of SQLite"));
    }
    let opened = opened(bytes).or_fail(Class::Input, damaged)?;
    let blobs = headers(&opened).or_fail(Class::Input, damaged)?;
    if blobs.len() > MOST_PACKAGES {
        return Err(Failure::input(format!("there are more than {MOST_PACKAGES} packages")));
    }
    for (number, blob) in blobs {
        let package = header::package(&blob)
            .ok_or_else(|| Failure::input(format!("the header of package {number} is damaged")))?;
        packages.add(package);
    }
    Ok(())
}

/// A database of these bytes that nothing writes to and whose schema may call nothing.
fn opened(bytes: Vec<u8>) -> rusqlite::Result<Connection> {
    let mut database = Connection::open_in_memory()?;
    let length = bytes.len();
    database.deserialize_read_exact(MAIN_DB, Cursor::new(bytes), length, true)?;
    database.set_limit(Limit::SQLITE_LIMIT_LENGTH, MOST_HEADER)?;
    database.pragma_update(None, "trusted_schema", false)?;
    database.pragma_update(None, "cell_size_check", true)?;
    Ok(database)
}

fn headers(database: &Connection) -> rusqlite::Result<Vec<(i64, Vec<u8>)>> {
    // A table of its own, and no view or virtual table in its place.
    let table = "SELECT rootpage FROM sqlite_schema WHERE type = 'table' AND name = 'Packages' AND rootpage > 0";
    database.query_row(table, [], |row| row.get::<_, i64>(0))?;
    let mut query = database.prepare("SELECT hnum, blob FROM Packages ORDER BY hnum LIMIT ?1")?;
    let limit = i64::try_from(MOST_PACKAGES + 1).unwrap_or(i64::MAX);
    let rows = query.query_map([limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// A database as RPM makes it, with these headers.
#[cfg(test)]
pub(crate) fn database(headers: &[Vec<u8>]) -> Vec<u8> {
    let mut made = Connection::open_in_memory().unwrap();
    made.execute_batch(
        "CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)",
    )
    .unwrap();
    for blob in headers {
        made.execute("INSERT INTO Packages (blob) VALUES (?1)", [blob]).unwrap();
    }
    let mut bytes = made.serialize(MAIN_DB).unwrap().to_vec();
    bytes[MODES].fill(2);
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::header::of_package;
    use super::*;
    use crate::tree::Tree;

    fn tree() -> Tree<'static> {
        let headers = [
            of_package("runc", Some(4), "1.1.12", "4.el9"),
            of_package("bash", None, "5.1.8", "9.el9"),
        ];
        let mut tree = Tree::default();
        tree.write("/var/lib/rpm/rpmdb.sqlite", 0o644, database(&headers));
        tree
    }

    #[test]
    fn packages_of_a_database_in_the_mode_of_a_log_are_read() {
        let packages = Packages::of(&tree()).unwrap();
        let versions: Vec<&str> =
            packages.installed.iter().flatten().map(|package| package.version.as_str()).collect();
        assert_eq!(versions, ["5.1.8-9.el9", "4:1.1.12-4.el9"]);
    }

    #[test]
    fn formats_that_are_not_read_are_told() {
        for (name, word) in [("Packages.db", "ndb"), ("Packages", "Berkeley DB")] {
            let mut tree = Tree::default();
            tree.write(&format!("/usr/lib/sysimage/rpm/{name}"), 0o644, "x");
            let packages = Packages::of(&tree).unwrap();
            assert!(packages.unknown().unwrap().contains(word), "{packages:?}");
        }
        let mut tree = tree();
        tree.write("/var/lib/rpm/rpmdb.sqlite-wal", 0o644, "frames");
        assert!(Packages::of(&tree).unwrap().unknown().unwrap().contains("-wal"));
    }

    #[test]
    fn damage_is_told_with_the_path_and_never_taken_for_an_empty_list() {
        let whole = tree().read("/var/lib/rpm/rpmdb.sqlite").unwrap().unwrap();
        let damage: [fn(&mut Vec<u8>); 4] = [
            |bytes| bytes.truncate(10),
            |bytes| bytes.truncate(4096),
            |bytes| bytes[0] ^= 1,
            |bytes| bytes[4096..].fill(0xA5),
        ];
        for (number, change) in damage.into_iter().enumerate() {
            let mut bytes = whole.clone();
            change(&mut bytes);
            let mut tree = Tree::default();
            tree.write("/var/lib/rpm/rpmdb.sqlite", 0o644, bytes);
            let failure = Packages::of(&tree).unwrap_err();
            assert_eq!(failure.class(), Class::Input, "{number}");
            assert!(failure.chain().join(": ").contains("rpmdb.sqlite"), "{number}: {failure:?}");
        }
        let mut tree = Tree::default();
        tree.write("/var/lib/rpm/rpmdb.sqlite", 0o644, database(&[vec![0; 40]]));
        assert!(Packages::of(&tree).is_err(), "a header without a name");
    }

    #[test]
    fn a_view_in_the_tables_place_is_not_asked() {
        let mut made = Connection::open_in_memory().unwrap();
        made.execute_batch(
            "CREATE VIEW Packages AS WITH RECURSIVE n(hnum) AS (SELECT 1 UNION ALL SELECT hnum + 1 FROM n) \
             SELECT hnum, x'00' AS blob FROM n",
        )
        .unwrap();
        let bytes = made.serialize(MAIN_DB).unwrap().to_vec();
        let mut tree = Tree::default();
        tree.write("/var/lib/rpm/rpmdb.sqlite", 0o644, bytes);
        assert!(Packages::of(&tree).is_err());
    }
}
