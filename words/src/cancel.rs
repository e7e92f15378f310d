use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Failure, Result};

/// A flag that says "stop": set once by a signal handler, looked at by every loop that may last.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<Flag>);

#[derive(Debug, Default)]
struct Flag {
    set: AtomicBool,
    /// Whoever stops it stops this one too.
    parent: Option<Cancel>,
}

impl Cancel {
    /// A flag for a part of the work: it is set with this one, and can be set alone.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(Arc::new(Flag { set: AtomicBool::new(false), parent: Some(self.clone()) }))
    }

    /// Asks everyone who holds a clone or a child to stop.
    pub fn cancel(&self) {
        self.0.set.store(true, Ordering::SeqCst);
    }

    /// Whether somebody asked to stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.set.load(Ordering::SeqCst) || self.0.parent.as_ref().is_some_and(Self::is_cancelled)
    }

    /// Fails with [`Failure::interrupted`] once somebody asked to stop.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Failure::interrupted()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_stops_with_its_parent_and_not_the_other_way_round() {
        let parent = Cancel::default();
        let (one, other) = (parent.child(), parent.child());
        one.cancel();
        assert!(one.is_cancelled() && !other.is_cancelled() && !parent.is_cancelled());
        parent.clone().cancel();
        assert!(other.check().is_err());
    }
}
