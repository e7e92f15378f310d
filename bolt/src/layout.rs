//! Where things stand in a page, in bytes, and the numbers that tell pages apart.

/// Page header: id (8), flags (2), number of elements (2), further pages (4).
pub(super) const HEADER: usize = 16;
/// An element, of a leaf: flags, position, key's and value's length (4 each); of a branch: position,
/// key's length (4 each), page (8). The position is that of the key, from the element's own start;
/// the value follows the key.
pub(super) const ELEMENT: usize = 16;
/// A bucket in its element: root page (8), sequence (8). Root page 0 stands for a leaf page that
/// follows at once.
pub(super) const BUCKET: usize = 16;
/// Meta: magic, version, page size, flags (4 each), root page, the root's sequence, free list's page,
/// number of pages, transaction id, checksum of all that (8 each).
pub(super) const META: usize = 64;
/// Where the meta's checksum stands, and how many bytes it is of.
pub(super) const META_SUMMED: usize = 56;

pub(super) const MAGIC: u32 = 0xED0C_DAED;
pub(super) const VERSION: u32 = 2;

pub(super) const BRANCH: u16 = 0x01;
pub(super) const LEAF: u16 = 0x02;
pub(super) const META_PAGE: u16 = 0x04;
pub(super) const FREE_LIST: u16 = 0x10;

/// A leaf element's flag: its value is a bucket.
pub(super) const IS_BUCKET: u32 = 0x01;

/// In the place of the free list's page: there is none (`NoFreelistSync`, as containerd opens its own).
pub(super) const NO_FREE_LIST: u64 = u64::MAX;

/// bbolt's `MaxKeySize`, in bytes.
pub(super) const LONGEST_KEY: usize = 32_768;
/// bbolt's `MaxValueSize`, in bytes.
pub(super) const LONGEST_VALUE: usize = (1 << 31) - 2;

/// How deep buckets and pages may lie in each other. containerd's buckets are seven deep, and a tree
/// of pages has a few levels; what goes deeper would take the stack with it.
pub(super) const DEEPEST: usize = 64;

/// FNV-1a in 64 bits, the meta page's checksum (<http://www.isthe.com/chongo/tech/comp/fnv/>).
pub(super) fn fnv_64a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
