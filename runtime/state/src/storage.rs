//! Where state files live: a flat folder of immutable files and one record that is replaced.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sluice_batch::{Error, Result, fail};

/// A folder of files. What a call has written is durable when it returns.
pub trait Storage: Send + Sync {
    /// Writes a file that is not there yet. One that is only half written, because the process died, is never named by anybody.
    fn create(&self, name: &str, bytes: &[u8]) -> Result<()>;

    /// Writes or replaces a file: readers see the old one or the new one, never a part.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()>;

    /// A file's content; `None` if there is none.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>>;

    /// Names and sizes in bytes.
    fn list(&self) -> Result<Vec<(String, u64)>>;

    /// Removes a file; it is no error if there is none.
    fn delete(&self, name: &str) -> Result<()>;

    /// For messages.
    fn place(&self, name: &str) -> String;
}

/// The storage that `execution.checkpointing.dir` names, for one pipeline: `/path`, `file:///path`.
///
/// # Errors
/// If the scheme is not supported, or the folder cannot be made.
pub fn open(directory: &str, pipeline: &str) -> Result<Arc<dyn Storage>> {
    let path = match directory.split_once("://") {
        None => directory,
        Some(("file", path)) if path.starts_with('/') => path,
        Some(("file", _)) => {
            return Err(Error::plan(format!("'execution.checkpointing.dir' = '{directory}' names a host")).hint("file:///path"));
        }
        Some((scheme, _)) => {
            return Err(Error::unsupported(format!("'execution.checkpointing.dir' on '{scheme}://'")).hint("file:///path, or a plain path"));
        }
    };
    if path.trim().is_empty() {
        return Err(Error::plan("'execution.checkpointing.dir' is empty"));
    }
    Ok(Arc::new(Folder::open(&Path::new(path).join(folder_name(pipeline)))?))
}

/// A pipeline's name as a folder's; names that had to be changed stay different.
fn folder_name(pipeline: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !pipeline.is_empty() && pipeline.len() <= 100 && !pipeline.starts_with('.') && pipeline.chars().all(plain) {
        return pipeline.to_owned();
    }
    let hash = pipeline.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let start: String = pipeline.chars().take(80).map(|c| if plain(c) { c } else { '-' }).collect();
    format!("job-{start}-{hash:016x}")
}

/// A local folder.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn open(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).map_err(|e| Error::runtime(format!("state folder {}: {e}", path.display())))?;
        Ok(Self { path: path.to_owned() })
    }

    fn failed(&self, name: &str, error: &std::io::Error) -> Error {
        Error::runtime(format!("state file {}: {error}", self.place(name)))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        let mut file = File::create(self.path.join(name))?;
        let half = bytes.len() / 2;
        file.write_all(&bytes[..half])?;
        fail::point("state-half-written");
        file.write_all(&bytes[half..])?;
        file.sync_all()
    }

    /// Makes names durable, too.
    fn sync(&self) -> std::io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

impl Storage for Folder {
    fn create(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let written = self.write(name, bytes).and_then(|()| self.sync());
        written.map_err(|e| {
            // A full disk must not stay full of what is of no use.
            let _ = fs::remove_file(self.path.join(name));
            self.failed(name, &e)
        })
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let new = format!(".{name}.new");
        let written = self.write(&new, bytes).and_then(|()| fs::rename(self.path.join(&new), self.path.join(name)));
        written.and_then(|()| self.sync()).map_err(|e| self.failed(name, &e))
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match fs::read(self.path.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.failed(name, &e)),
        }
    }

    fn list(&self) -> Result<Vec<(String, u64)>> {
        let listed = || -> std::io::Result<Vec<(String, u64)>> {
            let mut found = vec![];
            for entry in fs::read_dir(&self.path)? {
                let entry = entry?;
                if entry.file_type()?.is_file() {
                    found.push((entry.file_name().to_string_lossy().into_owned(), entry.metadata()?.len()));
                }
            }
            Ok(found)
        };
        listed().map_err(|e| self.failed("", &e))
    }

    fn delete(&self, name: &str) -> Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(self.failed(name, &e)),
            _ => Ok(()),
        }
    }

    fn place(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn files_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let storage = open(&format!("file://{}", dir.path().display()), "a job/x").unwrap();
        storage.create("a", b"1").unwrap();
        storage.replace("r", b"old").unwrap();
        storage.replace("r", b"new").unwrap();
        assert_eq!(storage.read("r").unwrap().unwrap(), b"new");
        assert_eq!(storage.read("x").unwrap(), None);
        let mut listed = storage.list().unwrap();
        listed.sort();
        assert_eq!(listed, [("a".to_owned(), 1), ("r".to_owned(), 3)]);
        storage.delete("a").unwrap();
        storage.delete("a").unwrap();
        assert_eq!(storage.list().unwrap().len(), 1);
    }

    #[test]
    fn folders_of_jobs_are_apart() {
        assert_eq!(folder_name("my-job.1"), "my-job.1");
        assert_ne!(folder_name("a b"), folder_name("a-b"));
        assert_ne!(folder_name("a b"), folder_name("a/b"));
        assert!(!folder_name("../x").contains('/') && folder_name("").starts_with("job-"));
        for wrong in ["s3://bucket/x", "file://host/x", ""] {
            assert!(open(wrong, "j").is_err(), "{wrong}");
        }
    }
}
