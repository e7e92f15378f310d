//! What is known of a file besides its content.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A block device of these numbers.
    BlockDevice {
        /// Its driver.
        major: u32,
        /// Which of the driver's devices.
        minor: u32,
    },
    /// A character device of these numbers.
    CharacterDevice {
        /// Its driver.
        major: u32,
        /// Which of the driver's devices.
        minor: u32,
    },
    /// A named pipe.
    Pipe,
    /// A socket.
    Socket,
}

/// A path and what stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The absolute path, byte for byte as the file system has it: it need not be UTF-8.
    pub path: PathBuf,
    /// What stands there.
    pub attributes: Attributes,
}

/// What is known of a file besides its content.
///
/// FAT has none of it but sizes and times. What is told of its files is what Linux's `vfat` tells when it is mounted
/// by root with no options and a umask of 022: owner and group 0, permissions 0755, without those to write where a
/// file is marked as read-only, one link, no extended attributes; times are taken for UTC. A folder's size is told as
/// 0, and FAT has no inodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// What it is.
    pub kind: Kind,
    /// Permissions in the lower nine bits, then sticky (0o1000), set-group-id (0o2000) and set-user-id (0o4000).
    pub mode: u16,
    /// Number of the owner.
    pub uid: u32,
    /// Number of the group.
    pub gid: u32,
    /// Length in bytes: of a link, that of its target.
    pub size: u64,
    /// When its content changed, in UTC seconds since 1970.
    pub modified: i64,
    /// The inode: paths with the same one are hard links of one file.
    pub inode: Option<u64>,
    /// How many names it has; of a folder, one more than folders in it, and its own.
    pub links: u32,
    /// A link's target, byte for byte.
    pub target: Option<PathBuf>,
    /// Extended attributes by name, values as `getxattr(2)` gives them: `security.capability`, `user.…`.
    pub xattrs: BTreeMap<OsString, Vec<u8>>,
}
