//! A folder on a disk.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use sluice_batch::{Error, Result, fail};

use super::{Storage, Version, Writer, exists, hash, taken_over};

/// It is made when something is written into it.
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    fn failed(&self, name: &str, error: &std::io::Error) -> Error {
        match error.kind() {
            ErrorKind::AlreadyExists => exists(&self.place(name)),
            _ => Error::runtime(format!("state file {}: {error}", self.place(name))),
        }
    }

    /// Opens a file for writing, and makes the folder if that is what is missing.
    fn open(&self, name: &str, how: &OpenOptions) -> std::io::Result<File> {
        match how.open(self.path.join(name)) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(&self.path)?;
                how.open(self.path.join(name))
            }
            opened => opened,
        }
    }

    /// Makes names durable, too.
    fn sync(&self) -> std::io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn read_if_there(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match fs::read(self.path.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.failed(name, &e)),
        }
    }

    /// Puts the finished file `new` in the place of `name`, or where none is.
    fn put(&self, new: &str, name: &str, replaces: bool) -> std::io::Result<()> {
        let (new, name) = (self.path.join(new), self.path.join(name));
        if !replaces {
            match fs::hard_link(&new, &name) {
                Ok(()) => return fs::remove_file(&new),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => return Err(e),
                // A file system without links; the lock keeps others of us out.
                Err(_) if name.exists() => return Err(ErrorKind::AlreadyExists.into()),
                Err(_) => {}
            }
        }
        fs::rename(&new, &name)
    }

    fn entries(&self, files: bool) -> Result<Vec<fs::DirEntry>> {
        let listed = || -> std::io::Result<Vec<fs::DirEntry>> {
            let entries = fs::read_dir(&self.path)?.collect::<std::io::Result<Vec<_>>>()?;
            Ok(entries.into_iter().filter(|e| e.file_type().is_ok_and(|t| if files { t.is_file() } else { t.is_dir() })).collect())
        };
        listed().map_err(|e| self.failed("", &e))
    }
}

fn version(bytes: &[u8]) -> Version {
    Version(format!("{:016x}-{}", hash(bytes), bytes.len()))
}

impl Storage for Folder {
    fn prepare(&self) -> Result<()> {
        fs::create_dir_all(&self.path).map_err(|e| Error::runtime(format!("folder {}: {e}", self.path.display())))
    }

    fn create(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut writer = self.writer(name)?;
        let (first, second) = bytes.split_at(bytes.len() / 2);
        let mut write = |part: &[u8]| writer.write_all(part).map_err(|e| self.failed(name, &e));
        write(first)?;
        fail::point("state-half-written");
        write(second)?;
        writer.finish()
    }

    fn writer(&self, name: &str) -> Result<Box<dyn Writer>> {
        let file = self.open(name, OpenOptions::new().write(true).create_new(true)).map_err(|e| self.failed(name, &e))?;
        Ok(Box::new(FileWriter { file, folder: Self::new(&self.path), name: name.to_owned(), finished: false }))
    }

    fn replace(&self, name: &str, bytes: &[u8], seen: Option<&Version>) -> Result<Version> {
        let new = format!(".{name}.new");
        let failed = |e: std::io::Error| self.failed(name, &e);
        self.prepare()?;
        // Nobody else replaces anything between the look at what is there and the rename. Where there are no locks the look must do.
        let folder = File::open(&self.path).map_err(failed)?;
        let _ = folder.lock();
        if self.read_if_there(name)?.as_deref().map(version) != seen.cloned() {
            return Err(taken_over(&self.place(name)));
        }
        let write = || -> std::io::Result<()> {
            let mut file = File::create(self.path.join(&new))?;
            file.write_all(bytes)?;
            file.sync_all()?;
            self.put(&new, name, seen.is_some())?;
            folder.sync_all()
        };
        write().map(|()| version(bytes)).map_err(|e| {
            let _ = fs::remove_file(self.path.join(&new));
            failed(e)
        })
    }

    fn read_record(&self, name: &str) -> Result<Option<(Vec<u8>, Version)>> {
        Ok(self.read_if_there(name)?.map(|bytes| {
            let version = version(&bytes);
            (bytes, version)
        }))
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.read_if_there(name)
    }

    fn size(&self, name: &str) -> Result<Option<u64>> {
        match fs::metadata(self.path.join(name)) {
            Ok(found) => Ok(Some(found.len())),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.failed(name, &e)),
        }
    }

    fn read_range(&self, name: &str, range: Range<u64>) -> Result<Bytes> {
        let read = || -> std::io::Result<Bytes> {
            let mut file = File::open(self.path.join(name))?;
            file.seek(SeekFrom::Start(range.start))?;
            let mut bytes = vec![0; range.end.saturating_sub(range.start) as usize];
            file.read_exact(&mut bytes)?;
            Ok(bytes.into())
        };
        read().map_err(|e| self.failed(name, &e))
    }

    fn list(&self) -> Result<Vec<(String, u64)>> {
        let mut found = vec![];
        for entry in self.entries(true)? {
            match entry.metadata() {
                Ok(data) => found.push((entry.file_name().to_string_lossy().into_owned(), data.len())),
                // It was deleted meanwhile.
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(self.failed("", &e)),
            }
        }
        Ok(found)
    }

    fn folders(&self) -> Result<Vec<String>> {
        Ok(self.entries(false)?.iter().map(|e| e.file_name().to_string_lossy().into_owned()).collect())
    }

    fn folder(&self, name: &str) -> Arc<dyn Storage> {
        Arc::new(Self::new(&self.path.join(name)))
    }

    fn delete(&self, name: &str) -> Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(self.failed(name, &e)),
            _ => Ok(()),
        }
    }

    fn remove(&self) -> Result<()> {
        match fs::remove_dir(&self.path) {
            Err(e) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => Err(self.failed("", &e)),
            _ => Ok(()),
        }
    }

    fn place(&self, name: &str) -> String {
        if name.is_empty() { self.path.display().to_string() } else { self.path.join(name).display().to_string() }
    }
}

struct FileWriter {
    file: File,
    folder: Folder,
    name: String,
    finished: bool,
}

impl Write for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Writer for FileWriter {
    fn finish(mut self: Box<Self>) -> Result<()> {
        self.file.sync_all().and_then(|()| self.folder.sync()).map_err(|e| self.folder.failed(&self.name, &e))?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if !self.finished {
            // A full disk must not stay full of what is of no use.
            let _ = fs::remove_file(self.folder.path.join(&self.name));
        }
    }
}
