//! Deleting what a job has written, so that the next job of its name starts anew.

use std::sync::Arc;

use sluice_batch::Result;

use crate::checkpoints::{DELETED, Deleted, RECORD, json};
use crate::storage::Storage;

/// What was found in a job's folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wiped {
    /// Files that were deleted.
    pub files: usize,
    /// Files that no job has written: they stay.
    pub left: Vec<String>,
}

/// Deletes the commits of a job, and leaves a mark: what Kafka's consumer group or a database still say of them is void.
///
/// # Errors
/// If a file cannot be deleted or the mark not be written. Then it can be called again.
pub fn checkpoints(folder: &Arc<dyn Storage>) -> Result<Wiped> {
    folder.prepare()?;
    // First the mark: a commit record that names files of which only some are there would be damage.
    let seen = folder.read_record(DELETED)?.map(|(_, version)| version);
    folder.replace(DELETED, &json(&Deleted::default())?, seen.as_ref())?;
    let mut wiped = Wiped::default();
    for (name, _) in folder.list()?.into_iter().filter(|(name, _)| name != DELETED) {
        if is_ours(&name) {
            folder.delete(&name)?;
            wiped.files += 1;
        } else {
            wiped.left.push(folder.place(&name));
        }
    }
    Ok(wiped)
}

fn is_ours(name: &str) -> bool {
    name == RECORD || name == format!(".{RECORD}.new") || name.ends_with(".parquet")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::checkpoints::Checkpoints;
    use crate::storage;

    fn folder(dir: &tempfile::TempDir) -> Arc<dyn Storage> {
        storage::open(&dir.path().join("x/y").display().to_string(), "job", &storage::Options::default()).unwrap()
    }

    #[test]
    fn what_a_job_has_written_goes_and_a_mark_stays() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(&dir);
        for name in ["base-000000000001-1.parquet", "delta-000000000002-1.parquet", RECORD, "notes.txt"] {
            folder.create(name, b"x").unwrap();
        }
        let mut job = Checkpoints::new(folder.clone(), "job");
        assert_eq!(job.deleted_before(4).unwrap(), None);
        let wiped = checkpoints(&folder).unwrap();
        assert_eq!((wiped.files, wiped.left), (3, vec![folder.place("notes.txt")]));
        assert_eq!(checkpoints(&folder).unwrap().files, 0, "again is no error");
        assert_eq!(job.deleted_before(4).unwrap(), Some(4));
        job.start_over(4).unwrap();
        job.clean().unwrap();
        assert_eq!(job.deleted_before(5).unwrap(), Some(4), "a second start goes on from commits of the first");
        job.write(3, &[], &[]).unwrap();
        job.committed().unwrap();
        assert_eq!(job.deleted_before(5).unwrap(), None);
    }

    #[test]
    fn a_job_that_never_wrote_is_marked_too() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(&dir);
        assert_eq!(checkpoints(&folder).unwrap(), Wiped::default());
        let deleted_before = |generation| Checkpoints::new(folder.clone(), "job").deleted_before(generation).unwrap();
        assert_eq!(deleted_before(1), Some(1));
        checkpoints(&folder).unwrap();
        assert_eq!(deleted_before(2), Some(2), "deleted once more");
    }
}
