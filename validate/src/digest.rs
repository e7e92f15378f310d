//! The digest of a file, told as a task.

use std::io::Read as _;
use std::path::Path;

use nodekiln_words::{Cancel, Digester, Failure, Progress, Result, ResultExt as _, Sha256};

/// SHA-256 of the bytes of the file at `path`; `title` names the task.
///
/// # Errors
/// When it cannot be read, or somebody asked to stop.
pub(crate) fn digest_file(
    path: &Path,
    title: &str,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Sha256> {
    let failed = || format!("read {}", path.display());
    let mut file = fs_err::File::open(path).or_io(failed)?;
    let total = file.metadata().or_io(failed)?.len();
    let task = progress.start(title, Some(total), "B");
    let (mut digester, mut buffer) = (Digester::default(), vec![0; 1 << 20]);
    let mut read = || {
        loop {
            cancel.check()?;
            match file.read(&mut buffer).or_io(failed)? {
                0 => return Ok::<_, Failure>(()),
                count => digester.update(buffer.get(..count).unwrap_or_default()),
            }
            progress.advance(task, digester.length());
        }
    };
    match read() {
        Ok(()) => {
            let digest = digester.finish();
            progress.finish(task, &digest.short());
            Ok(digest)
        }
        Err(failure) => {
            progress.fail(task);
            Err(failure)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use nodekiln_words::Event;

    use super::*;

    #[derive(Default)]
    struct Told(Mutex<Vec<&'static str>>);

    impl Progress for Told {
        fn event(&self, event: Event) {
            let word = match event {
                Event::Started { .. } => "started",
                Event::Finished { .. } => "finished",
                Event::Failed { .. } => "failed",
                _ => return,
            };
            self.0.lock().unwrap().push(word);
        }
    }

    #[test]
    fn a_task_that_begins_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs_err::write(&path, "content").unwrap();
        let (told, cancel) = (Told::default(), Cancel::default());
        assert_eq!(digest_file(&path, "it", &told, &cancel).unwrap(), Sha256::of("content"));
        cancel.cancel();
        assert!(digest_file(&path, "it", &told, &cancel).is_err());
        assert!(digest_file(folder.path(), "it", &told, &Cancel::default()).is_err());
        let words = ["started", "finished", "started", "failed", "started", "failed"];
        assert_eq!(*told.0.lock().unwrap(), words);
    }
}
