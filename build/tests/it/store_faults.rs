//! The store under kill, a second process, and a full disk.
//!
//! The other processes are this test program itself, started again for one of the ignored tests at
//! the end with the store's folder in a variable.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use nodekiln_build::store::{Begun, Keep, NodeRecord, Store};
use nodekiln_recipes::inventory::{Entry, EntryKind, Inventory};
use nodekiln_recipes::plan::NodeId;
use nodekiln_words::{Bytes, Cancel, Class, Result, Sha256, Silent};

const STORE: &str = "NODEKILN_TEST_STORE";

/// Starts this program again to run one of its ignored tests.
fn start(test: &str, store: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("store_faults::{test}"), "--ignored", "--nocapture"])
        .env(STORE, store)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn scan(folder: &Path, _: &Inventory, _: &Cancel) -> Result<Inventory> {
    let bytes = fs_err::read(folder.join("file")).unwrap_or_default();
    let kind = EntryKind::File { size: bytes.len() as u64, sha256: Sha256::of(&bytes) };
    let entry = Entry { kind, mode: 0, uid: 0, gid: 0, mtime: 0, xattrs: BTreeMap::new() };
    Ok(Inventory { entries: BTreeMap::from([("/file".to_owned(), entry)]) })
}

fn record(inventory: &Inventory) -> NodeRecord {
    NodeRecord {
        name: "node".to_owned(),
        preimage: "{}".to_owned(),
        output: inventory.digest(),
        files: 1,
        bytes: inventory.size(),
        seconds: 0.5,
        facts: BTreeMap::from([("fact".to_owned(), "value".to_owned())]),
    }
}

/// Makes the node, whose output is one file with the content `text`.
fn make(store: &Store, id: NodeId, text: &str) -> bool {
    match store.begin_node(id, &Cancel::default()).unwrap() {
        Begun::AlreadyThere(_) => false,
        Begun::Mine(node) => {
            let output = node.dir().join("output");
            fs_err::create_dir(&output).unwrap();
            fs_err::write(output.join("file"), text).unwrap();
            let inventory = scan(&output, &Inventory::default(), &Cancel::default()).unwrap();
            node.commit(record(&inventory), &inventory).unwrap();
            true
        }
    }
}

fn id(text: &str) -> NodeId {
    NodeId(Sha256::of(text))
}

#[test]
fn a_killed_writer_leaves_no_wrong_blob_and_no_scratch() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..8_u64 {
        let mut writer = start("writes_until_it_is_killed", folder.path());
        // The reading end stays open, so that the writer ends by the signal and nothing else.
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("writing")));
        std::thread::sleep(Duration::from_millis(7 * round));
        writer.kill().unwrap();
        let status = writer.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
        let store = Store::open(folder.path()).unwrap();
        let verified = store.verify(&scan, &Silent, &Cancel::default()).unwrap();
        assert_eq!(verified.damaged, []);
        assert!(verified.blobs > 0);
        let stats = store.stats().unwrap();
        assert_eq!(stats.scratch.number, 0, "leftovers of the dead are removed");
        assert_eq!(stats.blobs.number, verified.blobs);
    }
}

#[test]
#[ignore = "is run by another test, in a process of its own"]
fn writes_until_it_is_killed() {
    let Some(root) = std::env::var_os(STORE) else { return };
    let store = Store::open(Path::new(&root)).unwrap();
    for number in 0_u64.. {
        let bytes = number.wrapping_mul(0x9E37_79B9).to_le_bytes().repeat(20_000);
        let mut writer = store.blob_writer().unwrap();
        for piece in bytes.chunks(30_000) {
            writer.write_all(piece).unwrap();
        }
        writer.commit(Some(Sha256::of(&bytes))).unwrap();
        make(&store, id(&format!("{}-{number}", std::process::id())), &number.to_string());
        println!("writing {number}");
    }
}

#[test]
fn a_node_is_made_by_one_of_many_processes() {
    let folder = tempfile::tempdir().unwrap();
    Store::open(folder.path()).unwrap();
    let makers: Vec<Child> =
        (0..4).map(|_| start("makes_one_node_slowly", folder.path())).collect();
    let made = makers.into_iter().map(|maker| {
        let output = maker.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stdout).matches("made it myself").count()
    });
    assert_eq!(made.sum::<usize>(), 1);
    let store = Store::open(folder.path()).unwrap();
    store.node(id("slow")).unwrap().unwrap().verify(&scan, &Cancel::default()).unwrap();
}

#[test]
#[ignore = "is run by another test, in a process of its own"]
fn makes_one_node_slowly() {
    let Some(root) = std::env::var_os(STORE) else { return };
    let store = Store::open(Path::new(&root)).unwrap();
    match store.begin_node(id("slow"), &Cancel::default()).unwrap() {
        Begun::AlreadyThere(node) => assert_eq!(node.record.facts["fact"], "value"),
        Begun::Mine(node) => {
            std::thread::sleep(Duration::from_millis(300));
            fs_err::create_dir(node.dir().join("output")).unwrap();
            let inventory =
                scan(&node.dir().join("output"), &Inventory::default(), &Cancel::default())
                    .unwrap();
            node.commit(record(&inventory), &inventory).unwrap();
            println!("made it myself");
        }
    }
}

#[test]
fn a_node_that_was_changed_is_moved_aside_and_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    assert!(make(&store, id("n"), "text"));
    assert!(!make(&store, id("n"), "text"));
    let node = store.node(id("n")).unwrap().unwrap();
    assert_eq!(node.inventory().unwrap().entries.len(), 1);
    fs_err::write(node.output().join("file"), "tExt").unwrap();
    node.verify(&scan, &Cancel::default()).unwrap();
    let later = Store::open(folder.path()).unwrap();
    let node = later.node(id("n")).unwrap().unwrap();
    let failure = node.verify(&scan, &Cancel::default()).unwrap_err();
    assert_eq!(failure.class(), Class::Io);
    assert!(failure.to_string().contains("`/file`"), "{failure}");
    assert!(failure.to_string().contains(&Sha256::of("text").to_string()), "{failure}");
    assert!(later.node(id("n")).unwrap().is_none());
    assert!(make(&later, id("n"), "text"));
}

#[test]
fn a_node_whose_record_or_inventory_was_changed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    make(&store, id("n"), "text");
    let place = folder.path().join("nodes").join(id("n").to_string());
    fs_err::write(place.join("inventory.jsonl"), "").unwrap();
    let node = store.node(id("n")).unwrap().unwrap();
    assert!(node.inventory().unwrap_err().to_string().contains("expected sha256"));
    assert!(make(&store, id("n"), "text"), "it was moved aside");
    fs_err::write(place.join("record.json"), "{").unwrap();
    assert!(store.node(id("n")).unwrap().is_none());
    assert_eq!(store.stats().unwrap().damaged.number, 2);
}

#[test]
fn a_fact_that_was_changed_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let id = id("facts");
    make(&store, id, "text");
    let path = folder.path().join("nodes").join(id.to_string()).join("record.json");
    let text = fs_err::read_to_string(&path).unwrap();
    fs_err::write(&path, text.replace("value", "evil!")).unwrap();
    assert!(store.node(id).unwrap().is_none());
    assert!(make(&store, id, "text"), "it is made anew");
}

#[test]
fn verify_is_no_use_of_a_node() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let id = id("old");
    make(&store, id, "text");
    let place = folder.path().join("nodes").join(id.to_string());
    let old = SystemTime::now() - Duration::from_secs(3600);
    std::fs::File::open(&place).unwrap().set_modified(old).unwrap();
    let before = std::fs::metadata(&place).unwrap().modified().unwrap();
    let found = store.verify(&scan, &Silent, &Cancel::default()).unwrap();
    assert!(found.damaged.is_empty() && found.nodes == 1, "{found:?}");
    assert_eq!(std::fs::metadata(&place).unwrap().modified().unwrap(), before);
}

#[test]
fn verify_lists_what_is_damaged_and_moves_it_aside() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    make(&store, id("n"), "text");
    let whole = store.put_bytes(b"whole").unwrap();
    let broken = store.put_bytes(b"broken").unwrap();
    let place = store.blob_path(&broken).unwrap();
    fs_err::remove_file(&place).unwrap();
    fs_err::write(&place, "br0ken").unwrap();
    fs_err::write(store.node(id("n")).unwrap().unwrap().output().join("file"), "x").unwrap();
    let verified = store.verify(&scan, &Silent, &Cancel::default()).unwrap();
    assert_eq!((verified.blobs, verified.nodes, verified.damaged.len()), (2, 1, 2));
    assert!(verified.damaged[0].how.contains(&Sha256::of("br0ken").to_string()));
    assert!(verified.damaged[1].how.contains("`/file`"));
    assert!(store.has_blob(&whole) && !store.has_blob(&broken));
    assert_eq!(store.verify(&scan, &Silent, &Cancel::default()).unwrap().damaged, []);
}

#[test]
fn a_record_that_does_not_fit_its_inventory_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let Begun::Mine(node) = store.begin_node(id("n"), &Cancel::default()).unwrap() else {
        panic!("nobody made it");
    };
    fs_err::create_dir(node.dir().join("output")).unwrap();
    let inventory =
        scan(&node.dir().join("output"), &Inventory::default(), &Cancel::default()).unwrap();
    assert!(node.commit(record(&inventory), &Inventory::default()).is_err());
    assert!(store.node(id("n")).unwrap().is_none());
    assert_eq!(store.stats().unwrap().scratch.number, 0);
}

#[test]
fn a_full_disk_is_told_and_leaves_the_store_valid() {
    let folder = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(folder.path());
    let store = Store::open(disk.0).unwrap();
    let kept = store.put_bytes(b"kept").unwrap();
    let large = vec![1; 8 << 20];
    let failure = store.put_bytes(&large).unwrap_err();
    assert_eq!(failure.class(), Class::Io);
    assert!(failure.to_string().contains("no space left"), "{failure}");
    assert!(failure.to_string().contains("free on the file system"), "{failure}");
    assert!(failure.help().is_some());
    assert_eq!(store.read_blob(&kept).unwrap(), b"kept");
    assert_eq!(store.stats().unwrap().scratch.number, 0);
    let verified = store.verify(&scan, &Silent, &Cancel::default()).unwrap();
    assert_eq!((verified.blobs, verified.damaged.len()), (1, 0));
    store.put_bytes(b"there is room again").unwrap();
}

/// A file system of 4 MiB in memory, mounted as long as this lives; mounting needs root.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(folder: &'a Path) -> Self {
        use rustix::mount::{MountFlags, mount};
        mount("tmpfs", folder, "tmpfs", MountFlags::empty(), c"size=4m")
            .expect("this test mounts a small tmpfs and must run as root");
        Self(folder)
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        rustix::mount::unmount(self.0, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn scratch_with_a_mount_in_it_is_neither_entered_nor_unmounted() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    let mounted = tree.join("a/mounted");
    fs_err::create_dir_all(&mounted).unwrap();
    fs_err::write(tree.join("a/file"), "x").unwrap();
    let disk = SmallDisk::mount(&mounted);
    fs_err::write(mounted.join("kept"), "kept").unwrap();
    let error = nodekiln_build::store::remove_tree(&tree).unwrap_err();
    assert!(error.to_string().contains("mounted"), "{error}");
    assert!(mounted.join("kept").exists());
    assert!(!tree.join("a/file").exists());
    drop(disk);
    nodekiln_build::store::remove_tree(&tree).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs_err::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_new_store_is_closed_to_others_and_folders_with_trees_always_are() {
    let folder = tempfile::tempdir().unwrap();
    let new = folder.path().join("parent/new");
    drop(Store::open(&new).unwrap());
    assert_eq!(mode(&new), 0o700);
    // A folder that the user made keeps its bits, what an earlier version left open is closed.
    let own = folder.path().join("own");
    for name in ["", "nodes", "scratch", "damaged", "failed"] {
        fs_err::create_dir(own.join(name)).unwrap();
        fs_err::set_permissions(own.join(name), Permissions::from_mode(0o755)).unwrap();
    }
    drop(Store::open(&own).unwrap());
    assert_eq!(mode(&own), 0o755);
    for root in [new, own] {
        for name in ["nodes", "scratch", "damaged", "failed"] {
            assert_eq!(mode(&root.join(name)), 0o700, "{name}");
        }
    }
}

/// A node that failed, whose working folder was kept, in a store of its own so that no session that
/// began before uses it.
fn keep_failed(root: &Path, name: &str, age: u64) -> PathBuf {
    let store = Store::open(root).unwrap();
    let Begun::Mine(node) = store.begin_node(id(name), &Cancel::default()).unwrap() else {
        panic!("nobody made it");
    };
    fs_err::write(node.dir().join("half"), "x".repeat(10_000)).unwrap();
    let kept = node.keep().unwrap();
    let then = SystemTime::now() - Duration::from_secs(age);
    std::fs::File::open(&kept).unwrap().set_modified(then).unwrap();
    kept
}

#[test]
fn kept_folders_of_failed_nodes_are_counted_and_pruned_by_age_and_size() {
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let old = keep_failed(folder.path(), "old", 1000);
    let new = keep_failed(folder.path(), "new", 10);
    let store = Store::open(folder.path()).unwrap();
    let stats = store.stats().unwrap();
    assert_eq!(stats.failed.number, 2);
    assert!(stats.failed.size.get() > 20_000);
    let pruned = store.prune(Keep::Age(100), now).unwrap();
    assert_eq!((pruned.failed, pruned.nodes, pruned.in_use), (1, 0, 0));
    assert!(pruned.freed.get() > 10_000);
    assert!(!old.exists() && new.exists());
    assert_eq!(store.prune(Keep::Size(Bytes(0)), now).unwrap().failed, 1);
    assert_eq!(store.stats().unwrap().failed.number, 0);
}

#[test]
fn a_folder_that_was_just_kept_is_not_pruned() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let Begun::Mine(node) = store.begin_node(id("n"), &Cancel::default()).unwrap() else {
        panic!("nobody made it");
    };
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    std::fs::File::open(node.dir()).unwrap().set_modified(long_ago).unwrap();
    let kept = node.keep().unwrap();
    let pruned = store.prune(Keep::Size(Bytes(0)), 2_000_000_000).unwrap();
    assert_eq!((pruned.failed, pruned.in_use), (0, 1));
    assert!(kept.exists());
}

#[test]
fn a_file_that_is_kept_already_is_not_written_again_unless_the_blob_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    let file = folder.path().join("file");
    fs_err::write(&file, "some bytes").unwrap();
    let digest = store.put_file(&file).unwrap();
    assert_eq!(digest, Sha256::of("some bytes"));
    let place = store.blob_path(&digest).unwrap();
    let first = fs_err::metadata(&place).unwrap().ino();
    // Held open: the number of a file that is gone may be given out again at once.
    let held = fs_err::File::open(&place).unwrap();
    assert_eq!(store.put_file(&file).unwrap(), digest);
    assert_eq!(fs_err::metadata(&place).unwrap().ino(), first);
    drop(held);
    fs_err::remove_file(&place).unwrap();
    fs_err::write(&place, "s0me bytes").unwrap();
    let later = Store::open(store.root()).unwrap();
    assert_eq!(later.put_file(&file).unwrap(), digest);
    assert_eq!(later.read_blob(&digest).unwrap(), b"some bytes");
}
