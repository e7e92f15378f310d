//! A remote store that dies: at once, half-way through a build, in the middle of an object.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::stream::{self, BoxStream, StreamExt as _};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    UploadPart,
};

use super::{ALL, Common, Machine, names};

/// Objects in memory that answer so many requests, and then none.
#[derive(Debug)]
struct Mortal {
    objects: Arc<InMemory>,
    left: AtomicUsize,
    asked: AtomicUsize,
    /// Bytes after which every answer breaks off.
    breaks_after: Option<usize>,
    /// Parts of an upload that are taken.
    parts: usize,
    /// Uploads that were taken back.
    aborted: Arc<AtomicUsize>,
}

/// An upload that takes so many parts.
#[derive(Debug)]
struct Parts {
    upload: Box<dyn MultipartUpload>,
    left: usize,
    aborted: Arc<AtomicUsize>,
}

#[async_trait::async_trait]
impl MultipartUpload for Parts {
    fn put_part(&mut self, bytes: PutPayload) -> UploadPart {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                self.upload.put_part(bytes)
            }
            None => Box::pin(async { Err(dead()) }),
        }
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.upload.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.aborted.fetch_add(1, Ordering::SeqCst);
        self.upload.abort().await
    }
}

impl fmt::Display for Mortal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mortal")
    }
}

fn dead() -> Error {
    Error::Generic { store: "mortal", source: "the connection is gone".into() }
}

impl Mortal {
    fn over(objects: &Arc<InMemory>, left: usize) -> Self {
        let objects = Arc::clone(objects);
        let (left, asked) = (AtomicUsize::new(left), AtomicUsize::new(0));
        let aborted = Arc::default();
        Self { objects, left, asked, breaks_after: None, parts: usize::MAX, aborted }
    }

    fn ask(&self) -> Result<()> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let live = |left: usize| left.checked_sub(1);
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, live);
        left.map(drop).map_err(|_| dead())
    }
}

#[async_trait::async_trait]
impl ObjectStore for Mortal {
    async fn put_opts(&self, at: &Path, bytes: PutPayload, how: PutOptions) -> Result<PutResult> {
        self.ask()?;
        self.objects.put_opts(at, bytes, how).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        how: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.ask()?;
        let upload = self.objects.put_multipart_opts(at, how).await?;
        Ok(Box::new(Parts { upload, left: self.parts, aborted: Arc::clone(&self.aborted) }))
    }

    async fn get_opts(&self, at: &Path, how: GetOptions) -> Result<GetResult> {
        self.ask()?;
        let mut answer = self.objects.get_opts(at, how).await?;
        if let (Some(most), GetResultPayload::Stream(stream)) =
            (self.breaks_after, &mut answer.payload)
        {
            let whole = std::mem::replace(stream, stream::empty().boxed());
            let mut left = most;
            let cut = whole.flat_map(move |piece| {
                let piece = piece.unwrap();
                let end = piece.len().min(left);
                left -= end;
                let broken = (end < piece.len()).then(|| Err(dead()));
                stream::iter([Ok(piece.slice(..end))].into_iter().chain(broken))
            });
            *stream = cut.boxed();
        }
        Ok(answer)
    }

    fn delete_stream(
        &self,
        at: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.objects.delete_stream(at)
    }

    fn list(&self, at: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.objects.list(at)
    }

    async fn list_with_delimiter(&self, at: Option<&Path>) -> Result<ListResult> {
        self.ask()?;
        self.objects.list_with_delimiter(at).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, how: CopyOptions) -> Result<()> {
        self.ask()?;
        self.objects.copy_opts(from, to, how).await
    }
}

#[test]
fn a_remote_store_that_dies_after_any_number_of_requests_stops_no_build() {
    let common = Common::new();
    let objects = Arc::new(InMemory::new());
    let first = Machine::new();
    let immortal = Arc::new(Mortal::over(&objects, usize::MAX));
    first.build(&first.over(immortal.clone(), &common.settings()));
    let pushed = immortal.asked.load(Ordering::SeqCst);
    assert_eq!(first.told.warnings(), Vec::<String>::new());

    // Pulling, from a store that has everything.
    let mut pulled = Vec::new();
    for left in 0.. {
        let machine = Machine::new();
        let mortal = Arc::new(Mortal::over(&objects, left));
        let ran = machine.build(&machine.over(mortal.clone(), &common.settings()));
        assert_eq!(ran.nodes.len(), 4);
        pulled.push(ran.pulled.len());
        let warnings = machine.told.warnings();
        if mortal.asked.load(Ordering::SeqCst) <= left {
            assert_eq!((warnings.len(), ran.executed.len()), (0, 0), "{warnings:?}");
            break;
        }
        assert_eq!(warnings.len(), 1, "told once: {warnings:?}");
        assert!(warnings[0].contains("going on without the remote store"), "{warnings:?}");
        assert!(warnings[0].contains("the connection is gone"), "{warnings:?}");
    }
    assert_eq!((pulled[0], pulled.last()), (0, Some(&4)));
    assert!(pulled.iter().any(|pulled| (1..4).contains(pulled)), "half-way: {pulled:?}");

    // Pushing, to a store that has nothing; what it has then must not be half a node.
    for left in (0..pushed).step_by(3) {
        let objects = Arc::new(InMemory::new());
        let machine = Machine::new();
        let mortal = Arc::new(Mortal::over(&objects, left));
        machine.build(&machine.over(mortal, &common.settings()));
        assert_eq!(machine.told.warnings().len(), 1, "{:?}", machine.told.warnings());
        let reader = Machine::new();
        let mortal = Arc::new(Mortal::over(&objects, usize::MAX));
        reader.run(&ALL, &reader.over(mortal, &common.settings())).unwrap();
        assert_eq!(reader.told.warnings(), Vec::<String>::new(), "after {left} requests");
    }
}

#[test]
fn an_answer_that_breaks_off_is_not_taken_for_an_object() {
    let common = Common::new();
    let objects = Arc::new(InMemory::new());
    let first = Machine::new();
    let immortal = Mortal::over(&objects, usize::MAX);
    first.build(&first.over(Arc::new(immortal), &common.settings()));
    for most in [0, 5, 3000, 100_000] {
        let mut breaking = Mortal::over(&objects, usize::MAX);
        breaking.breaks_after = Some(most);
        let machine = Machine::new();
        let ran = machine.build(&machine.over(Arc::new(breaking), &common.settings()));
        assert!(ran.executed.contains("big"), "after {most} bytes: {:?}", names(&ran.pulled));
        assert_eq!(machine.told.warnings().len(), 1, "{:?}", machine.told.warnings());
        let scratch = std::fs::read_dir(machine.bench.store.root().join("scratch")).unwrap();
        assert_eq!(scratch.count(), 1, "only the folder for transfers");
    }
}

#[test]
fn an_upload_that_fails_is_taken_back() {
    let common = Common::new();
    for parts in 0..3 {
        let objects = Arc::new(InMemory::new());
        let mut mortal = Mortal::over(&objects, usize::MAX);
        mortal.parts = parts;
        let aborted = Arc::clone(&mortal.aborted);
        let machine = Machine::new();
        machine.build(&machine.over(Arc::new(mortal), &common.settings()));
        assert_eq!(aborted.load(Ordering::SeqCst), 1, "after {parts} parts");
        let warnings = machine.told.warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
    }
}
