use std::collections::BTreeMap;

use nodekiln_words::Sha256;
use proptest::prelude::*;

use super::*;

fn value(bytes: impl Into<Vec<u8>>) -> Item {
    Item::Value(bytes.into())
}

fn bucket(sequence: u64, entries: impl IntoIterator<Item = (impl Into<Vec<u8>>, Item)>) -> Bucket {
    Bucket {
        sequence,
        entries: entries.into_iter().map(|(key, item)| (key.into(), item)).collect(),
    }
}

/// A database with all that a file can have: three levels of pages, values of several pages, buckets
/// in their element and out of it, an empty one, and one that hands out numbers.
fn rich() -> Bucket {
    let many =
        (0..20_000_u32).map(|number| (format!("key {number:06}"), value(number.to_le_bytes())));
    let small = bucket(0, [("a", value("b")), ("empty", value(""))]);
    bucket(
        0,
        [
            ("many", Item::Bucket(bucket(7, many))),
            ("large", Item::Bucket(bucket(0, [("value", value(vec![5; 50_000]))]))),
            ("nested", Item::Bucket(bucket(0, [("small", Item::Bucket(small))]))),
            ("none", Item::Bucket(bucket(3, std::iter::empty::<(&str, Item)>()))),
        ],
    )
}

#[test]
fn what_is_written_is_read_again() {
    for root in [Bucket::default(), bucket(9, [("key", value("value"))]), rich()] {
        assert_eq!(read(&write(&root).unwrap()).unwrap(), root);
    }
}

/// These bytes are in images: should they change, the version of `Work::Preload` has to rise.
#[test]
fn the_bytes_are_the_same_on_every_machine() {
    let digest = |root: &Bucket| Sha256::of(write(root).unwrap()).to_string();
    assert_eq!(digest(&rich()), "ab503eb3937f7e4d239d3e5d5edc076dcc26eda2ea6c027688c24a468160287f");
}

#[test]
fn a_file_has_no_page_too_many() {
    // Two meta pages, the free list, the root.
    assert_eq!(write(&Bucket::default()).unwrap().len(), 4 * 4096);
    let small = bucket(0, [("in", Item::Bucket(bucket(0, [("key", value([1; 900]))])))]);
    assert_eq!(write(&small).unwrap().len(), 4 * 4096);
    let larger = bucket(0, [("out", Item::Bucket(bucket(0, [("key", value([1; 1000]))])))]);
    assert_eq!(write(&larger).unwrap().len(), 5 * 4096);
}

#[test]
fn what_bbolt_does_not_take_is_refused() {
    let at_fault = |key: Vec<u8>| write(&bucket(0, [(key, value(""))])).unwrap_err();
    assert!(at_fault(Vec::new()).to_string().contains("empty"));
    assert!(at_fault(vec![b'k'; 32_769]).to_string().contains("longer than 32768"));
    let mut deep = Bucket::default();
    for _ in 0..70 {
        deep = bucket(0, [("b", Item::Bucket(deep))]);
    }
    assert!(write(&deep).unwrap_err().to_string().contains("too deep"));
    let inner = bucket(0, [("", value(""))]);
    assert!(write(&bucket(0, [("b", Item::Bucket(inner))])).is_err());
}

/// Writes `bytes` at `offset`, and a checksum that agrees on both meta pages.
fn patched(offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = write(&rich()).unwrap();
    file[offset..offset + bytes.len()].copy_from_slice(bytes);
    for page in [0, 4096] {
        let sum = layout::fnv_64a(&file[page + 16..page + 72]);
        file[page + 72..page + 80].copy_from_slice(&sum.to_le_bytes());
    }
    file
}

#[test]
fn each_kind_of_damage_is_named_with_its_place() {
    let good = write(&rich()).unwrap();
    let root = u64::from_le_bytes(good[32..40].try_into().unwrap()) as usize * 4096;
    let second_root = 4096 + 32;
    let mut checksum = good.clone();
    checksum[24] ^= 1;
    for (file, offset, what) in [
        (Vec::new(), 0, "the file ends within a meta page"),
        (vec![0; 8192], 0, "no meta page"),
        (checksum, 72, "checksum is wrong"),
        (patched(16, &[0; 4]), 16, "no bbolt database"),
        (patched(24, &[0; 4]), 24, "page size is none"),
        (patched(4096 + 24, &2048_u32.to_le_bytes()), 4096, "differ in page size"),
        (good[..good.len() - 4096].to_vec(), 56, "shorter than"),
        (patched(second_root, &u64::MAX.to_le_bytes()), 4096, "not there"),
        (patched(second_root, &2_u64.to_le_bytes()), 8192 + 8, "another kind"),
        (patched(root, &[9]), root, "another number"),
        (patched(root + 12, &[200, 0, 9]), root + 12, "overflows the file"),
        (patched(root + 10, &[255, 255]), root + 10, "more elements than room"),
        (patched(root + 16, &[4]), root + 16, "unknown flags"),
        (patched(root + 20, &[0; 4]), root + 16, "out of its place"),
        (patched(root + 24, &[0; 4]), root + 16, "empty or too long"),
        (patched(root + 28, &[1]), root + 16 + 64 + 5, "too short"),
        (patched(8192 + 10, &[255, 2]), 8192, "longer than its page"),
        (patched(8192 + 10, &[1]), 8192 + 16, "free that is not there"),
    ] {
        let damaged = read(&file).expect_err(what);
        assert!(damaged.to_string().contains(what), "{damaged} is not: {what}");
        assert_eq!(damaged.offset, offset as u64, "{what}");
    }
}

#[test]
fn keys_out_of_order_are_found_in_a_page_and_between_pages() {
    let mut file = write(&rich()).unwrap();
    let at = |file: &[u8], text: &[u8]| file.windows(text.len()).position(|w| w == text).unwrap();
    let place = at(&file, b"key 000003");
    file[place..place + 10].copy_from_slice(b"key 000009");
    assert!(read(&file).unwrap_err().to_string().contains("out of order"));
    let mut file = write(&rich()).unwrap();
    let place = at(&file, b"key 000000");
    file[place..place + 10].copy_from_slice(b"aaa 000000");
    assert!(read(&file).unwrap_err().to_string().contains("out of order"));
}

#[test]
fn a_page_is_in_use_once() {
    let twice = bucket(
        0,
        ["a", "b"].map(|key| (key, Item::Bucket(bucket(0, [("key", value(vec![1; 2000]))])))),
    );
    let mut file = write(&twice).unwrap();
    assert!(read(&file).is_ok());
    let root = 5 * 4096;
    // The element of `b` names the page of `a`.
    let second = root + 16 + 32 + (1 + 16) + 1;
    assert_eq!(file[second], 4);
    file[second] = 3;
    assert!(read(&file).unwrap_err().to_string().contains("in use twice"));
    // The root page is in the free list.
    let mut file = write(&twice).unwrap();
    file[8192 + 10] = 1;
    file[8192 + 16] = 5;
    assert!(read(&file).unwrap_err().to_string().contains("free and in use"));
}

fn any_bucket() -> impl Strategy<Value = Bucket> {
    let bytes = |most| proptest::collection::vec(any::<u8>(), 0..most);
    let key = || proptest::collection::vec(any::<u8>(), 1..60);
    let leaf = (any::<u64>(), proptest::collection::btree_map(key(), bytes(3000), 0..40)).prop_map(
        |(sequence, values)| Bucket {
            sequence,
            entries: values.into_iter().map(|(key, bytes)| (key, Item::Value(bytes))).collect(),
        },
    );
    leaf.prop_recursive(4, 40, 6, move |inner| {
        let item = prop_oneof![bytes(200).prop_map(Item::Value), inner.prop_map(Item::Bucket)];
        (any::<u64>(), proptest::collection::btree_map(key(), item, 0..12))
            .prop_map(|(sequence, entries)| Bucket { sequence, entries })
    })
}

/// A file small enough for every part of it to be hit.
fn small() -> Vec<u8> {
    let entries: BTreeMap<_, _> =
        (0..300_u16).map(|n| (format!("{n:04}").into_bytes(), value(n.to_le_bytes()))).collect();
    let inner = bucket(2, [("a", value("b"))]);
    write(&bucket(
        0,
        [
            ("in", Item::Bucket(inner)),
            ("out", Item::Bucket(Bucket { sequence: 1, entries })),
            ("large", value(vec![1; 9000])),
        ],
    ))
    .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_bucket_comes_back(root in any_bucket()) {
        let file = write(&root).unwrap();
        prop_assert_eq!(file.len() % 4096, 0);
        prop_assert_eq!(read(&file).unwrap(), root);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn damage_ends_in_a_value_or_an_error(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0..8_u8), 1..4),
        sums in any::<bool>(),
        end in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut file = small();
        let structures = [0..80, 4096..4176, 8192..8400, 12_288..12_400, 16_384..16_500];
        for (number, (at, bit)) in flips.iter().enumerate() {
            // Half of the flips go where the structures are.
            let at = if number % 2 == 0 {
                let range = structures[at.index(structures.len())].clone();
                range.start + at.index(range.len())
            } else {
                at.index(file.len())
            };
            file[at] ^= 1 << bit;
        }
        if sums {
            for page in [0, 4096] {
                let sum = layout::fnv_64a(&file[page + 16..page + 72]);
                file[page + 72..page + 80].copy_from_slice(&sum.to_le_bytes());
            }
        }
        if let Some(end) = end {
            file.truncate(end.index(file.len()));
        }
        if let Ok(root) = read(&file) {
            // What is taken for good can be written again.
            let again = write(&root).unwrap();
            prop_assert_eq!(read(&again).unwrap(), root);
        }
    }

    #[test]
    fn arbitrary_bytes_end_in_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(read(&bytes).is_err());
    }
}
