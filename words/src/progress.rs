use std::sync::atomic::{AtomicU64, Ordering};

/// Names one running task in the stream of events; unique within a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(u64);

impl TaskId {
    /// An id that no other task of this process has.
    #[must_use]
    pub fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What a room tells whoever watches. Rendering is the command line's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A task begins. `total` is its size in `unit`s where it is known ("B" counts bytes).
    Started {
        /// The task.
        task: TaskId,
        /// What it does, as in "fetch 231 packages".
        title: String,
        /// Size of the task in units.
        total: Option<u64>,
        /// What is counted: "B" for bytes, else a noun such as "packages".
        unit: &'static str,
    },
    /// A task got further: `done` units in all, at `detail`.
    Advanced {
        /// The task.
        task: TaskId,
        /// Units done since the start.
        done: u64,
        /// What is at hand, if worth showing.
        detail: Option<String>,
    },
    /// A task ended well; `note` is its result in a few words.
    Finished {
        /// The task.
        task: TaskId,
        /// The result in a few words, such as "hit" or "14 layers, 1.1 GiB".
        note: String,
    },
    /// A task ended badly; the failure itself is returned to the caller.
    Failed {
        /// The task.
        task: TaskId,
    },
    /// A line worth telling that belongs to no task.
    Note(String),
    /// Something suspicious that does not stop the work.
    Warning(String),
}

/// Receives events, from any thread. Implementations must not block for long.
pub trait Progress: Send + Sync {
    /// Takes one event.
    fn event(&self, event: Event);

    /// Reports the start of a task and returns its id.
    fn start(&self, title: &str, total: Option<u64>, unit: &'static str) -> TaskId {
        let task = TaskId::next();
        self.event(Event::Started { task, title: title.to_owned(), total, unit });
        task
    }

    /// Reports how far a task got.
    fn advance(&self, task: TaskId, done: u64) {
        self.event(Event::Advanced { task, done, detail: None });
    }

    /// Reports the good end of a task.
    fn finish(&self, task: TaskId, note: &str) {
        self.event(Event::Finished { task, note: note.to_owned() });
    }

    /// Reports the bad end of a task.
    fn fail(&self, task: TaskId) {
        self.event(Event::Failed { task });
    }
}

/// Drops every event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: Event) {}
}
