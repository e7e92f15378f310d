use std::collections::BTreeMap;
use std::fmt;

use super::layout::{
    BRANCH, BUCKET, DEEPEST, ELEMENT, FREE_LIST, HEADER, IS_BUCKET, LEAF, LONGEST_KEY, MAGIC, META,
    META_PAGE, META_SUMMED, NO_FREE_LIST, VERSION, fnv_64a,
};
use super::{Bucket, Item};

/// What is wrong with a file, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct Damaged {
    /// Offset in bytes from the start of the file.
    pub offset: u64,
    what: &'static str,
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offset {}: {}", self.offset, self.what)
    }
}

impl std::error::Error for Damaged {}

type Result<T> = std::result::Result<T, Damaged>;

fn damaged<T>(offset: usize, what: &'static str) -> Result<T> {
    Err(Damaged { offset: offset as u64, what })
}

/// Reads the root bucket with all that is in it.
///
/// # Errors
/// When the file is no database, is damaged, or was not closed in good order: either meta page is
/// wrong, a page is of another kind than the place that names it, is named twice or is in the free
/// list too, keys are not in order, or anything reaches past its page.
pub fn read(bytes: &[u8]) -> Result<Bucket> {
    let meta = newest_meta(bytes)?;
    let mut reader = Reader { bytes, page_size: meta.page_size, taken: vec![false; meta.pages] };
    let root = reader.page(meta.root, meta.offset, &[LEAF, BRANCH])?;
    let mut bucket = Bucket { sequence: meta.sequence, entries: BTreeMap::new() };
    reader.node(&root, Range::default(), 0, true, &mut bucket.entries)?;
    if meta.free_list != NO_FREE_LIST {
        reader.check_free_list(&meta)?;
    }
    Ok(bucket)
}

struct Meta {
    /// Where it stands in the file.
    offset: usize,
    page_size: usize,
    root: u64,
    sequence: u64,
    free_list: u64,
    /// How many pages the file has in use, free ones among them.
    pages: usize,
    transaction: u64,
}

/// The meta page of the latest transaction. Both have to be good: a database that was closed in good
/// order has two, and the older one alone would be an older state.
fn newest_meta(bytes: &[u8]) -> Result<Meta> {
    let first = meta(bytes, 0, 0)?;
    let second = meta(bytes, first.page_size, 1)?;
    if second.page_size != first.page_size {
        return damaged(second.offset, "the meta pages differ in page size");
    }
    Ok(if first.transaction > second.transaction { first } else { second })
}

fn meta(bytes: &[u8], offset: usize, number: u64) -> Result<Meta> {
    let Some(page) = bytes.get(offset..).and_then(|rest| rest.get(..HEADER + META)) else {
        return damaged(offset, "the file ends within a meta page");
    };
    let (header, meta) = page.split_at(HEADER);
    if u64_at(header, 0) != number || u16_at(header, 8) != META_PAGE {
        return damaged(offset, "no meta page");
    }
    if u32_at(meta, 0) != MAGIC || u32_at(meta, 4) != VERSION {
        return damaged(offset + HEADER, "no bbolt database of version 2");
    }
    if u64_at(meta, META_SUMMED) != fnv_64a(&meta[..META_SUMMED]) {
        return damaged(offset + HEADER + META_SUMMED, "the meta page's checksum is wrong");
    }
    let page_size = u32_at(meta, 8) as usize;
    if !page_size.is_power_of_two() || page_size < HEADER + META {
        return damaged(offset + HEADER + 8, "the page size is none");
    }
    let Some(pages) = usize::try_from(u64_at(meta, 40))
        .ok()
        .filter(|pages| pages.checked_mul(page_size).is_some_and(|length| length <= bytes.len()))
    else {
        return damaged(offset + HEADER + 40, "the file is shorter than its number of pages says");
    };
    Ok(Meta {
        offset,
        page_size,
        root: u64_at(meta, 16),
        sequence: u64_at(meta, 24),
        free_list: u64_at(meta, 32),
        pages,
        transaction: u64_at(meta, 48),
    })
}

/// A page with the pages that it overflows into, or one that lies in an element.
struct Page<'a> {
    /// Where it stands in the file.
    offset: usize,
    bytes: &'a [u8],
    flags: u16,
    count: usize,
}

/// One element of a page.
struct Element<'a> {
    /// Where it stands in the file.
    offset: usize,
    flags: u32,
    key: &'a [u8],
    value: &'a [u8],
    /// Where the value stands in the file.
    value_offset: usize,
    /// The page, of a branch.
    page: u64,
}

/// Keys that may stand in a page: from the first on, before the second.
#[derive(Clone, Copy, Default)]
struct Range<'a> {
    from: Option<&'a [u8]>,
    before: Option<&'a [u8]>,
}

struct Reader<'a> {
    bytes: &'a [u8],
    page_size: usize,
    /// Which pages have been read: none may be named twice, so that no walk is endless.
    taken: Vec<bool>,
}

impl<'a> Reader<'a> {
    /// Page `id`, of one of `kinds`, which what stands at `named_at` names.
    fn page(&mut self, id: u64, named_at: usize, kinds: &[u16]) -> Result<Page<'a>> {
        let number = match usize::try_from(id) {
            Ok(number) if number >= 2 && number < self.taken.len() => number,
            _ => return damaged(named_at, "a page is named that is not there"),
        };
        let offset = number * self.page_size;
        let rest = &self.bytes[offset..self.taken.len() * self.page_size];
        if u64_at(rest, 0) != id {
            return damaged(offset, "a page has another number than its place");
        }
        let flags = u16_at(rest, 8);
        if !kinds.contains(&flags) {
            return damaged(offset + 8, "a page is of another kind than its use");
        }
        let further = u32_at(rest, 12) as usize;
        let Some(taken) = self.taken.get_mut(number..=number.saturating_add(further)) else {
            return damaged(offset + 12, "a page overflows the file");
        };
        if taken.contains(&true) {
            return damaged(offset, "a page is in use twice");
        }
        taken.fill(true);
        let bytes = &rest[..taken.len() * self.page_size];
        Ok(Page { offset, bytes, flags, count: usize::from(u16_at(rest, 10)) })
    }

    /// Reads what a page of a bucket's tree has, and all pages below it.
    fn node(
        &mut self,
        page: &Page<'a>,
        range: Range<'_>,
        depth: usize,
        root: bool,
        entries: &mut BTreeMap<Vec<u8>, Item>,
    ) -> Result<()> {
        if depth > DEEPEST {
            return damaged(page.offset, "pages lie too deep in each other");
        }
        let elements = page.elements(range)?;
        if elements.is_empty() && !(root && page.flags == LEAF) {
            return damaged(page.offset, "a page has no elements");
        }
        if page.flags == LEAF {
            for element in elements {
                let item = self.item(&element, depth)?;
                entries.insert(element.key.to_vec(), item);
            }
            return Ok(());
        }
        for (number, element) in elements.iter().enumerate() {
            let below = self.page(element.page, element.offset, &[LEAF, BRANCH])?;
            let before = elements.get(number + 1).map(|next| next.key).or(range.before);
            let range = Range { from: Some(element.key), before };
            self.node(&below, range, depth + 1, false, entries)?;
        }
        Ok(())
    }

    /// What a leaf's element holds.
    fn item(&mut self, element: &Element<'a>, depth: usize) -> Result<Item> {
        if element.flags == 0 {
            return Ok(Item::Value(element.value.to_vec()));
        }
        if element.flags != IS_BUCKET {
            return damaged(element.offset, "an element has unknown flags");
        }
        if element.value.len() < BUCKET {
            return damaged(element.value_offset, "a bucket is too short");
        }
        let root = u64_at(element.value, 0);
        let mut bucket = Bucket { sequence: u64_at(element.value, 8), entries: BTreeMap::new() };
        if root == 0 {
            let page = inline_page(element)?;
            for inner in page.elements(Range::default())? {
                if inner.flags != 0 {
                    return damaged(inner.offset, "a bucket lies in a bucket's own element");
                }
                bucket.entries.insert(inner.key.to_vec(), Item::Value(inner.value.to_vec()));
            }
        } else {
            let page = self.page(root, element.value_offset, &[LEAF, BRANCH])?;
            self.node(&page, Range::default(), depth + 1, true, &mut bucket.entries)?;
        }
        Ok(Item::Bucket(bucket))
    }

    /// Checks that no page is both free and in use.
    fn check_free_list(&mut self, meta: &Meta) -> Result<()> {
        let page = self.page(meta.free_list, meta.offset, &[FREE_LIST])?;
        // A count that does not fit stands in the first place of the list.
        let (count, at) = match page.count {
            0xFFFF => (u64_at(page.bytes, HEADER), HEADER + 8),
            count => (count as u64, HEADER),
        };
        let ids = page.bytes.get(at..).unwrap_or_default().chunks_exact(8);
        let Some(count) = usize::try_from(count).ok().filter(|count| *count <= ids.len()) else {
            return damaged(page.offset, "the free list is longer than its page");
        };
        for (number, id) in ids.take(count).enumerate() {
            let offset = page.offset + at + number * 8;
            let free = usize::try_from(u64_at(id, 0)).ok().filter(|id| *id >= 2);
            match free.and_then(|id| self.taken.get_mut(id)) {
                None => return damaged(offset, "a page is free that is not there"),
                Some(true) => return damaged(offset, "a page is free and in use, or free twice"),
                Some(taken) => *taken = true,
            }
        }
        Ok(())
    }
}

/// The page that follows a bucket's header in its element.
fn inline_page<'a>(element: &Element<'a>) -> Result<Page<'a>> {
    let (bytes, offset) = (&element.value[BUCKET..], element.value_offset + BUCKET);
    if bytes.len() < HEADER || u64_at(bytes, 0) != 0 || u32_at(bytes, 12) != 0 {
        return damaged(offset, "a bucket's element has no page");
    }
    match u16_at(bytes, 8) {
        LEAF => Ok(Page { offset, bytes, flags: LEAF, count: usize::from(u16_at(bytes, 10)) }),
        _ => damaged(offset + 8, "a page is of another kind than its use"),
    }
}

impl<'a> Page<'a> {
    /// The page's elements, whose keys ascend within `range`.
    fn elements(&self, range: Range<'_>) -> Result<Vec<Element<'a>>> {
        let mut free = HEADER + self.count * ELEMENT;
        if free > self.bytes.len() {
            return damaged(self.offset + 10, "a page has more elements than room");
        }
        let mut elements: Vec<Element<'a>> = Vec::with_capacity(self.count);
        for number in 0..self.count {
            let element = self.element(number, free)?;
            free = element.value_offset - self.offset + element.value.len();
            let ascends = match elements.last() {
                Some(last) => last.key < element.key,
                None => range.from.is_none_or(|from| from <= element.key),
            };
            if !ascends || range.before.is_some_and(|before| element.key >= before) {
                return damaged(element.offset, "a key is out of order");
            }
            elements.push(element);
        }
        Ok(elements)
    }

    /// Element `number`, whose key and value lie behind the page's first `free` bytes: they follow
    /// each other in the elements' order, so that no byte is read twice.
    fn element(&self, number: usize, free: usize) -> Result<Element<'a>> {
        let start = HEADER + number * ELEMENT;
        let (offset, record) = (self.offset + start, &self.bytes[start..start + ELEMENT]);
        let words = [0, 4, 8, 12].map(|at| u32_at(record, at));
        let (flags, position, key, value, page) = if self.flags == LEAF {
            (words[0], words[1], words[2], words[3], 0)
        } else {
            (0, words[0], words[1], 0, u64_at(record, 8))
        };
        let key_start = start.saturating_add(position as usize);
        let value_start = key_start.saturating_add(key as usize);
        let end = value_start.saturating_add(value as usize);
        if key == 0 || key as usize > LONGEST_KEY {
            return damaged(offset, "a key is empty or too long");
        }
        if key_start < free || end > self.bytes.len() {
            return damaged(offset, "an element reaches out of its place");
        }
        Ok(Element {
            offset,
            flags,
            key: &self.bytes[key_start..value_start],
            value: &self.bytes[value_start..end],
            value_offset: self.offset + value_start,
            page,
        })
    }
}

// Callers have made sure that the bytes are there.

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    std::array::from_fn(|number| bytes[at + number])
}
