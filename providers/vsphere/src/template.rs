use std::path::Path;

use nodekiln_disk::{Deflate, Disk, FileWriter, Pass, Payload, Written, ova};
use nodekiln_words::{Cancel, Progress, Result};

use crate::descriptor::{Machine, members};
use crate::envelope::descriptor;

/// An OVA being written, with the descriptor of its machine.
#[derive(Debug)]
pub struct Template {
    writer: ova::Writer,
    machine: Machine,
    members: ova::Members,
}

impl Template {
    /// Creates the file at `path` for `disk`. The members are called after the machine; `created` is their
    /// time in seconds since 1970, and the disk is compressed by `deflate`.
    ///
    /// # Errors
    /// When the file cannot be made, or the disk does not suit VMDK.
    pub fn create(
        disk: &Disk,
        path: &Path,
        machine: Machine,
        created: u64,
        deflate: Deflate,
    ) -> Result<Self> {
        let mut members = members(&machine.name, 0, created);
        // Numbers of twenty digits are the longest that may come.
        let largest = ova::Extent { length: u64::MAX, populated: u64::MAX };
        members.room = descriptor(&machine, &members, &largest)?.len() as u64;
        let writer = ova::Writer::create(disk, path, members.clone(), deflate)?;
        Ok(Self { writer, machine, members })
    }
}

impl FileWriter for Template {
    fn join<'a>(&'a mut self, disk: &'a Disk, pass: &mut Pass<'a>) {
        pass.stream(disk, &mut self.writer.extent);
    }

    fn finish(
        self: Box<Self>,
        _disk: &Disk,
        payload: &Payload,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Written> {
        let Self { writer, machine, members } = *self;
        let describe = |extent: &ova::Extent| descriptor(&machine, &members, extent);
        writer.finish(&payload.digest(progress, cancel)?, describe, cancel)
    }
}
