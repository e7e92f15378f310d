use std::borrow::Cow;
use std::fmt;

use super::layout::{
    BRANCH, BUCKET, DEEPEST, ELEMENT, FREE_LIST, HEADER, IS_BUCKET, LEAF, LONGEST_KEY,
    LONGEST_VALUE, MAGIC, META_PAGE, META_SUMMED, VERSION, fnv_64a,
};
use super::{Bucket, Item};

/// Page size in bytes: bbolt takes the building machine's, which must not show. One of 4096 is read by
/// machines of any page size.
const PAGE: usize = 4096;
/// How far a page is filled before the next is begun, in bytes: nine tenths, as bbolt does when it
/// compacts a file. The rest is room for the node's own changes.
const FILL: usize = PAGE / 10 * 9;
/// A bucket of at most so many bytes lies within its element (bbolt's `maxInlineBucketSize`).
const LARGEST_INLINE: usize = PAGE / 4;
/// A page has at least so many elements, whatever their size (bbolt's `minKeysPerPage`).
const FEWEST: usize = 2;
/// Pages of the two metas; the free list's; then come the trees'.
const FREE_LIST_PAGE: u64 = 2;

/// Why a bucket cannot be written.
#[derive(Debug, PartialEq, Eq)]
pub struct Unwritable {
    /// The key of the entry that is at fault.
    pub key: Vec<u8>,
    what: &'static str,
}

impl fmt::Display for Unwritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key `{}`: {}", self.key.escape_ascii(), self.what)
    }
}

impl std::error::Error for Unwritable {}

/// Writes a database that has `root` as its root bucket.
///
/// The bytes depend on `root` alone: the file is as bbolt makes a new one, with the transactions 0 and
/// 1, an empty free list, and no page too many.
///
/// # Errors
/// When a key is empty or longer than 32768 bytes, a value is longer than bbolt takes, or buckets lie
/// more than 64 deep in each other.
pub fn write(root: &Bucket) -> Result<Vec<u8>, Unwritable> {
    let mut file = vec![0; PAGE * 3];
    let root_page = tree(&mut file, root, 0)?;
    let pages = (file.len() / PAGE) as u64;
    page_header(&mut file[PAGE * 2..], FREE_LIST_PAGE, FREE_LIST, 0, 0);
    for number in [0, 1] {
        let mut meta = Vec::new();
        for word in [MAGIC, VERSION, PAGE as u32, 0] {
            meta.extend(word.to_le_bytes());
        }
        // The transaction that wrote meta page 0 is 0, that of page 1 is 1.
        for word in [root_page, root.sequence, FREE_LIST_PAGE, pages, number] {
            meta.extend(word.to_le_bytes());
        }
        debug_assert_eq!(meta.len(), META_SUMMED);
        meta.extend(fnv_64a(&meta).to_le_bytes());
        let page = &mut file[PAGE * number as usize..];
        page_header(page, number, META_PAGE, 0, 0);
        page[HEADER..HEADER + meta.len()].copy_from_slice(&meta);
    }
    Ok(file)
}

/// An element to write, of a leaf or of a branch.
struct Element<'a> {
    flags: u32,
    key: &'a [u8],
    value: Cow<'a, [u8]>,
    /// The page, of a branch.
    page: u64,
}

impl Element<'_> {
    fn size(&self) -> usize {
        ELEMENT + self.key.len() + self.value.len()
    }
}

/// Writes the pages of a bucket, those of the buckets in it first, and returns its root page.
fn tree(file: &mut Vec<u8>, bucket: &Bucket, depth: usize) -> Result<u64, Unwritable> {
    let mut elements = Vec::with_capacity(bucket.entries.len());
    for (key, item) in &bucket.entries {
        let refused = |what| Err(Unwritable { key: key.clone(), what });
        if key.is_empty() || key.len() > LONGEST_KEY {
            return refused("empty or longer than 32768 bytes");
        }
        let (flags, value) = match item {
            Item::Value(value) if value.len() > LONGEST_VALUE => {
                return refused("its value is too long");
            }
            Item::Value(value) => (0, Cow::Borrowed(value.as_slice())),
            Item::Bucket(_) if depth >= DEEPEST => return refused("buckets lie too deep"),
            Item::Bucket(inner) => (IS_BUCKET, Cow::Owned(bucket_value(file, inner, depth)?)),
        };
        elements.push(Element { flags, key, value, page: 0 });
    }
    let mut level = pages(file, LEAF, &elements);
    while level.len() > 1 {
        level = pages(file, BRANCH, &level);
    }
    // An empty bucket has one page too.
    Ok(level.first().map_or(0, |top| top.page))
}

/// What stands in the element of a bucket.
fn bucket_value(file: &mut Vec<u8>, bucket: &Bucket, depth: usize) -> Result<Vec<u8>, Unwritable> {
    let inline = inline_elements(bucket);
    let root = if inline.is_some() { 0 } else { tree(file, bucket, depth + 1)? };
    let mut value = Vec::with_capacity(BUCKET);
    value.extend(root.to_le_bytes());
    value.extend(bucket.sequence.to_le_bytes());
    if let Some(elements) = inline {
        value.extend(node(0, LEAF, 0, &elements));
    }
    Ok(value)
}

/// The elements of a bucket that is small enough to lie within its own element.
fn inline_elements(bucket: &Bucket) -> Option<Vec<Element<'_>>> {
    let mut elements = Vec::with_capacity(bucket.entries.len());
    let mut size = HEADER;
    for (key, item) in &bucket.entries {
        let Item::Value(value) = item else { return None };
        let element = Element { flags: 0, key, value: Cow::Borrowed(value), page: 0 };
        size += element.size();
        // An empty key is the tree's to refuse.
        if size > LARGEST_INLINE || key.is_empty() {
            return None;
        }
        elements.push(element);
    }
    Some(elements)
}

/// Appends pages that hold `elements`, and returns the elements of a branch over them.
fn pages<'a>(file: &mut Vec<u8>, kind: u16, elements: &[Element<'a>]) -> Vec<Element<'a>> {
    let mut above = Vec::new();
    let mut rest = elements;
    loop {
        let (these, others) = rest.split_at(split(rest));
        let id = (file.len() / PAGE) as u64;
        let size = HEADER + these.iter().map(Element::size).sum::<usize>();
        let count = size.div_ceil(PAGE);
        file.extend(node(id, kind, count - 1, these));
        file.resize((id as usize + count) * PAGE, 0);
        let key = these.first().map_or(&[][..], |first| first.key);
        above.push(Element { flags: 0, key, value: Cow::Borrowed(&[]), page: id });
        rest = others;
        if rest.is_empty() {
            return above;
        }
    }
}

/// How many elements go into the next page: all if they fit, else as many as fill it, and never so
/// many that the last page would have too few (bbolt's `splitTwo` and `splitIndex`).
fn split(elements: &[Element<'_>]) -> usize {
    let all = HEADER + elements.iter().map(Element::size).sum::<usize>();
    if elements.len() <= FEWEST * 2 || all < PAGE {
        return elements.len();
    }
    let mut size = HEADER;
    for (number, element) in elements[..elements.len() - FEWEST].iter().enumerate() {
        size += element.size();
        if number >= FEWEST && size > FILL {
            return number;
        }
    }
    elements.len() - FEWEST
}

/// A page's header, elements, keys and values, without padding.
fn node(id: u64, kind: u16, further: usize, elements: &[Element<'_>]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    page_header(&mut bytes, id, kind, elements.len(), further);
    let mut position = elements.len() * ELEMENT;
    for (number, element) in elements.iter().enumerate() {
        let from_here = (position - number * ELEMENT) as u32;
        let key = element.key.len() as u32;
        if kind == LEAF {
            for word in [element.flags, from_here, key, element.value.len() as u32] {
                bytes.extend(word.to_le_bytes());
            }
        } else {
            bytes.extend(from_here.to_le_bytes());
            bytes.extend(key.to_le_bytes());
            bytes.extend(element.page.to_le_bytes());
        }
        position += element.key.len() + element.value.len();
    }
    for element in elements {
        bytes.extend(element.key);
        bytes.extend(element.value.as_ref());
    }
    bytes
}

fn page_header(page: &mut [u8], id: u64, kind: u16, count: usize, further: usize) {
    page[..8].copy_from_slice(&id.to_le_bytes());
    page[8..10].copy_from_slice(&kind.to_le_bytes());
    page[10..12].copy_from_slice(&(count as u16).to_le_bytes());
    page[12..16].copy_from_slice(&(further as u32).to_le_bytes());
}
