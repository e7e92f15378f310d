//! What is at a path.

/// What is at a path of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Permissions with set-user-id, set-group-id and sticky bits: the lower twelve bits of `st_mode`.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Length in bytes; of a link, that of its target.
    pub size: u64,
    /// Where a link leads, as it is written.
    pub target: Option<String>,
    /// Number of its inode and of its file system: two paths with both the same are one file.
    pub inode: (u32, u64),
    /// Extended attribute `security.capability` (`struct vfs_cap_data`), where it has one.
    pub capability: Option<Vec<u8>>,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A device that is read and written in blocks.
    BlockDevice,
    /// Another device.
    CharacterDevice,
    /// A named pipe.
    Pipe,
    /// A socket.
    Socket,
}

/// A file may be executed as its owner (`S_ISUID`).
const SET_UID: u32 = 0o4000;
/// A file may be executed as its group (`S_ISGID`).
const SET_GID: u32 = 0o2000;

impl Entry {
    /// Something of root's.
    #[must_use]
    pub const fn of(kind: Kind, mode: u32, size: u64) -> Self {
        Self { kind, mode, uid: 0, gid: 0, size, target: None, inode: (0, 0), capability: None }
    }

    /// Whether it is a file that runs with its owner's or its group's rights.
    #[must_use]
    pub fn is_set_id(&self) -> bool {
        self.kind == Kind::File && self.mode & (SET_UID | SET_GID) != 0
    }

    /// Whether it is root's, user and group.
    #[must_use]
    pub const fn is_roots(&self) -> bool {
        self.uid == 0 && self.gid == 0
    }
}
