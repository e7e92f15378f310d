//! What only somebody with a trusted key can forge is found too.

use std::sync::Mutex;

use nodekiln_recipes::Inventory;
use object_store::memory::InMemory;

use super::pack::{PackName, pack};
use super::*;
use crate::layer::scan;
use crate::store::NodeRecord;

/// Remembers warnings.
#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Progress for Warnings {
    fn event(&self, event: Event) {
        if let Event::Warning(text) = event {
            self.0.lock().unwrap().push(text);
        }
    }
}

/// A remote store in memory with a tree's pack, as somebody changed it, under a record that is signed
/// by the store's own key. Returns what pulling it leaves in the store, and the warnings.
fn pulled(change: impl FnOnce(&mut Vec<u8>, &mut Offer)) -> (Option<Inventory>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    let tree = folder.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    std::fs::write(tree.join("file"), "good bytes").unwrap();
    let inventory = scan(&tree, true, &Cancel::default()).unwrap();
    let file = tempfile::tempfile().unwrap();
    let name = pack(&tree, &inventory, &file, &Cancel::default()).unwrap();
    let mut stream = Vec::new();
    std::io::Seek::rewind(&mut &file).unwrap();
    zstd::stream::copy_decode(&file, &mut stream).unwrap();
    let record = NodeRecord {
        name: "node".to_owned(),
        preimage: "preimage".to_owned(),
        output: inventory.digest(),
        files: 1,
        bytes: 10,
        seconds: 0.0,
        facts: BTreeMap::new(),
    };
    let mut offer = Offer { id: NodeId(Sha256::of("preimage")), record, pack: name };
    change(&mut stream, &mut offer);
    let packed = zstd::bulk::compress(&stream, 3).unwrap();
    let (sha256, size) = (Sha256::of(&packed), packed.len() as u64);
    offer.pack = PackName { sha256, size, ..offer.pack };

    let warnings = Arc::new(Warnings::default());
    let objects = Arc::new(InMemory::new());
    let settings = RemoteSettings::default();
    let told = Arc::clone(&warnings) as Arc<dyn Progress>;
    let remote = Remote::over(objects, &settings, &store, told, Cancel::default()).unwrap();
    let key = remote.keys.signing.as_ref().unwrap();
    let path = record_path(offer.id, &keys::name_of(key.public_key()));
    remote.put(&path, offer.sign(key).unwrap()).unwrap();
    remote.put(&pack_path(&sha256), packed).unwrap();
    assert_eq!(remote.offers(&[offer.id]).unwrap().len(), 1);
    remote.pull(&[offer.id]).unwrap();
    let scratch = std::fs::read_dir(store.root().join("scratch")).unwrap();
    assert_eq!(scratch.count(), 1, "only the folder for transfers");
    let node = store.node(offer.id).unwrap();
    let found = warnings.0.lock().unwrap().clone();
    (node.map(|node| node.inventory().unwrap()), found)
}

fn replace(stream: &mut [u8], from: &[u8], to: &[u8]) {
    let at = stream.windows(from.len()).rposition(|part| part == from).unwrap();
    stream[at..at + to.len()].copy_from_slice(to);
}

#[test]
fn a_signed_pack_is_taken_as_it_was_packed_and_in_no_other_way() {
    let (inventory, warnings) = pulled(|_, _| {});
    assert_eq!((inventory.unwrap().entries.len(), warnings), (2, vec![]));

    let refused = |change: fn(&mut Vec<u8>, &mut Offer), why: &str| {
        let (inventory, warnings) = pulled(change);
        assert_eq!(inventory, None, "{why}");
        let [warning] = &warnings[..] else { panic!("{why}: {warnings:?}") };
        assert!(warning.contains("packs/sha256/") && warning.contains(why), "{warning}");
    };
    refused(
        |stream, _| replace(stream, b"good bytes", b"evil bytes"),
        "its tree is another: `/file`",
    );
    refused(|stream, _| replace(stream, b"/file", b"/life"), "its inventory is");
    refused(|_, offer| offer.record.output = Sha256::of("x"), "its inventory is");
    refused(|_, offer| offer.pack.unpacked -= 1, "more than announced");
    refused(|_, offer| offer.pack.unpacked += 1, "another length");
    refused(|stream, _| stream.truncate(stream.len() - 1), "cannot be unpacked");
}
