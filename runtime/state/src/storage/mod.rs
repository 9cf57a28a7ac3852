//! Where state lives: a flat folder of files, on a disk or in an object store. State files are immutable; a record is replaced only by
//! who has seen the one before.

mod file;
mod input;
mod object;
mod patience;
mod s3;

use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use sluice_batch::{Error, Result};

pub use input::Input;
pub use s3::Options;

/// A folder of files. What a call has written is durable when it returns. Calls block; they may come from any thread.
pub trait Storage: Send + Sync {
    /// Makes sure that files can be written here: makes the folder, or asks the object store.
    fn prepare(&self) -> Result<()>;

    /// Writes a file that is not there yet. One that is only half written, because the process died, is never named by anybody.
    fn create(&self, name: &str, bytes: &[u8]) -> Result<()>;

    /// The same, piece by piece: the file is there when [`Writer::finish`] returns; without it, nothing is.
    fn writer(&self, name: &str) -> Result<Box<dyn Writer>>;

    /// Writes a file in one step: readers see the old one or the new one, never a part. `seen` is the version that it replaces; without
    /// one there must be none. If somebody else was faster nothing is written, and the error is a job's last one: there is another
    /// instance of it.
    fn replace(&self, name: &str, bytes: &[u8], seen: Option<&Version>) -> Result<Version>;

    /// A file that [`Storage::replace`] writes, and its version; `None` if there is none.
    fn read_record(&self, name: &str) -> Result<Option<(Vec<u8>, Version)>>;

    /// A file's content; `None` if there is none.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>>;

    /// A file's size in bytes; `None` if there is none.
    fn size(&self, name: &str) -> Result<Option<u64>>;

    /// Bytes of a file that is there, all within its size.
    fn read_range(&self, name: &str, range: Range<u64>) -> Result<Bytes>;

    /// Names and sizes in bytes.
    fn list(&self) -> Result<Vec<(String, u64)>>;

    /// Names of the folders in this one.
    fn folders(&self) -> Result<Vec<String>>;

    /// A folder in this one; it need not be there.
    fn folder(&self, name: &str) -> Arc<dyn Storage>;

    /// Removes a file; it is no error if there is none.
    fn delete(&self, name: &str) -> Result<()>;

    /// Removes the folder if nothing is in it; it is no error if something is.
    fn remove(&self) -> Result<()>;

    /// For messages: the file's name with all that is before it; the folder's, if `name` is empty.
    fn place(&self, name: &str) -> String;
}

/// A file that is being written. Dropped before [`Writer::finish`], it never was.
pub trait Writer: Write + Send {
    /// Makes it durable.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// Which content of a file was seen: an ETag, or the content's hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(String);

/// What schemes mean; Flink's three names of S3 are one here.
const SCHEMES: [&str; 4] = ["file", "s3", "s3a", "s3p"];

/// The folder that a URI names: `/path`, `file:///path`, `s3://bucket/prefix`. Nothing is looked at yet.
///
/// # Errors
/// If the scheme is not supported, or the URI has none of what it needs.
pub fn at(uri: &str, options: &Options) -> Result<Arc<dyn Storage>> {
    let uri = uri.trim();
    let path = match uri.split_once("://") {
        None if uri.starts_with("file:/") => &uri["file:".len()..],
        None => uri,
        Some(("file", path)) if path.starts_with('/') => path,
        Some(("file", _)) => return Err(Error::plan(format!("'{uri}' names a host")).hint("file:///path")),
        Some(("s3" | "s3a" | "s3p", rest)) => return s3::open(rest, options),
        Some((scheme, _)) => {
            let near = SCHEMES.iter().map(|s| (strsim::damerau_levenshtein(s, &scheme.to_ascii_lowercase()), *s)).min();
            return Err(Error::unsupported(format!("'{uri}': storage on '{scheme}://'")).hint(match near {
                Some((..=1, near)) => format!("did you mean '{near}://'?"),
                _ => "a path, file:///path, or s3://bucket/prefix".to_owned(),
            }));
        }
    };
    if path.is_empty() {
        return Err(Error::plan("the directory's name is empty").hint("a path, file:///path, or s3://bucket/prefix"));
    }
    Ok(Arc::new(file::Folder::new(Path::new(path))))
}

/// The storage that `execution.checkpointing.dir` names, for one pipeline; it is ready to be written.
///
/// # Errors
/// As [`at`], or if nothing can be written there.
pub fn open(directory: &str, pipeline: &str, options: &Options) -> Result<Arc<dyn Storage>> {
    let of_setting = |e: Error| e.context("'execution.checkpointing.dir'");
    let storage = of_job(directory, pipeline, options).map_err(of_setting)?;
    storage.prepare().map_err(of_setting)?;
    Ok(storage)
}

/// Where the commits of a pipeline are below `execution.checkpointing.dir`. Nothing is looked at yet.
///
/// # Errors
/// As [`at`].
pub fn of_job(directory: &str, pipeline: &str, options: &Options) -> Result<Arc<dyn Storage>> {
    Ok(at(directory, options)?.folder(&folder_name(pipeline)))
}

/// `directory/name`, as a path or a URI.
pub fn join(directory: &str, name: &str) -> String {
    format!("{}/{name}", directory.trim().trim_end_matches('/'))
}

/// A pipeline's name as a folder's; names that had to be changed stay different.
fn folder_name(pipeline: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !pipeline.is_empty() && pipeline.len() <= 100 && !pipeline.starts_with('.') && pipeline.chars().all(plain) {
        return pipeline.to_owned();
    }
    let start: String = pipeline.chars().take(80).map(|c| if plain(c) { c } else { '-' }).collect();
    format!("job-{start}-{:016x}", hash(pipeline.as_bytes()))
}

fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

/// Somebody else writes what only one may.
fn taken_over(place: &str) -> Error {
    Error::runtime(format!("another instance of this job has started and has taken over; this one ends: {place} is not as it was left"))
        .last()
}

fn exists(place: &str) -> Error {
    Error::runtime(format!("{place} exists already"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What every storage does.
    pub(super) fn behaves(storage: &Arc<dyn Storage>) {
        storage.prepare().unwrap();
        storage.create("a", b"1").unwrap();
        assert!(storage.create("a", b"2").unwrap_err().message().contains("exists already"));
        assert_eq!(storage.read("a").unwrap().unwrap(), b"1");
        assert_eq!((storage.read("x").unwrap(), storage.size("x").unwrap()), (None, None));
        assert!(storage.read_record("r").unwrap().is_none());
        let old = storage.replace("r", b"old", None).unwrap();
        let taken = storage.replace("r", b"mine", None).unwrap_err();
        assert!(taken.is_last() && taken.message().contains("another instance"), "{taken}");
        let new = storage.replace("r", b"new", Some(&old)).unwrap();
        assert!(storage.replace("r", b"a zombie's", Some(&old)).unwrap_err().is_last());
        assert_eq!(storage.read_record("r").unwrap().unwrap(), (b"new".to_vec(), new));
        assert!(storage.replace("gone", b"x", Some(&old)).unwrap_err().is_last());
        let mut listed = storage.list().unwrap();
        listed.sort();
        assert_eq!(listed, [("a".to_owned(), 1), ("r".to_owned(), 3)]);
        storage.delete("a").unwrap();
        storage.delete("a").unwrap();
        assert_eq!(storage.list().unwrap().len(), 1);
        let large: Vec<u8> = (0..20_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 9) as u8).collect();
        storage.create("large", &large).unwrap();
        assert!(storage.create("large", &large[..9_000_000]).is_err());
        assert!(storage.read("large").unwrap().unwrap() == large);
        assert_eq!(storage.read_range("large", 7_999_990..16_000_010).unwrap(), large[7_999_990..16_000_010]);
        let mut writer = storage.writer("pieces").unwrap();
        large.chunks(3_000_001).for_each(|c| writer.write_all(c).unwrap());
        writer.finish().unwrap();
        assert_eq!(storage.size("pieces").unwrap(), Some(large.len() as u64));
        assert!(storage.read("pieces").unwrap().unwrap() == large);
        let mut given_up = storage.writer("given-up").unwrap();
        given_up.write_all(&large).unwrap();
        drop(given_up);
        storage.writer("empty").unwrap().finish().unwrap();
        assert_eq!(storage.read("empty").unwrap().unwrap(), b"");
        assert!(storage.list().unwrap().iter().all(|(name, _)| name != "given-up"));
        let inner = storage.folder("inner");
        inner.create("a", b"").unwrap();
        assert_eq!(storage.folders().unwrap(), ["inner"]);
        inner.delete("a").unwrap();
        inner.remove().unwrap();
        storage.remove().unwrap();
        assert_eq!(storage.folders().unwrap().len(), 0);
        assert!(storage.place("a").ends_with("/a") && !storage.place("").ends_with('/'));
    }

    #[test]
    fn a_folder_behaves() {
        let dir = tempfile::tempdir().unwrap();
        behaves(&at(&format!("file://{}/x/y", dir.path().display()), &Options::default()).unwrap());
        behaves(&at(&format!("{}/z", dir.path().display()), &Options::default()).unwrap());
    }

    #[test]
    fn folders_of_jobs_are_apart() {
        assert_eq!(folder_name("my-job.1"), "my-job.1");
        assert_ne!(folder_name("a b"), folder_name("a-b"));
        assert_ne!(folder_name("a b"), folder_name("a/b"));
        assert!(!folder_name("../x").contains('/') && folder_name("").starts_with("job-"));
    }

    #[test]
    fn uris_are_checked() {
        let error = |uri: &str| at(uri, &Options::default()).map(|s| s.place("")).unwrap_err().to_string();
        for (uri, text) in [
            ("file://host/x", "names a host"),
            ("", "is empty"),
            ("S3://bucket/x", "did you mean 's3://'"),
            ("s4://bucket/x", "did you mean 's3://'"),
            ("gs://bucket/x", "s3://bucket/prefix"),
            ("hdfs:///x", "not supported"),
            ("s3://", "names no bucket"),
            ("s3:///x", "names no bucket"),
            ("s3://Bad_Bucket/x", "is no name of a bucket"),
            ("s3://bucket/a/../b", "'..'"),
        ] {
            assert!(error(uri).contains(text), "{uri}: {}", error(uri));
        }
        let place = |uri: &str| at(uri, &Options::default()).unwrap().place("f");
        assert_eq!(place("s3a://bucket/a//b/"), "s3://bucket/a/b/f");
        assert_eq!(place("s3p://bucket"), "s3://bucket/f");
        assert_eq!(place("file:/a/b"), "/a/b/f");
        assert_eq!(join("s3://b/x/", "1"), "s3://b/x/1");
    }
}
