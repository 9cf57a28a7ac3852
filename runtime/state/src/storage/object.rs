//! A folder as a prefix of an object store.

use std::collections::VecDeque;
use std::future::Future;
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    Error as StoreError, GetOptions, GetRange, MultipartId, ObjectStore, ObjectStoreExt, PutMode, PutPayload, PutResult,
    Result as StoreResult, UpdateVersion,
};
use sluice_batch::{Error, Result, fail};

use super::patience::{Begun, begin, may_pass, patiently};
use super::{Storage, Version, Writer, exists, taken_over};

/// Bytes of a request: what is larger is sent and fetched in parts. S3 wants parts of 5 MiB at least and has at most 10 000 of them.
const PART: usize = 8 << 20;
/// Parts in flight.
const AT_ONCE: usize = 4;
/// From here on parts are larger, so that there are not too many.
const LARGER_FROM: usize = 4000;

/// What is needed of an object store.
pub trait Store: ObjectStore + MultipartStore {}

impl<T: ObjectStore + MultipartStore> Store for T {}

/// Turns what went wrong (doing what, with which object) into an error that says what to do.
pub type Explain = dyn Fn(&str, &StoreError) -> Error + Send + Sync;

/// A prefix of a store.
#[derive(Clone)]
pub struct Objects {
    pub store: Arc<dyn Store>,
    /// `s3://bucket`
    pub root: String,
    pub prefix: Path,
    pub explain: Arc<Explain>,
    /// How long a request is tried again.
    pub patience: Duration,
}

impl Objects {
    fn path(&self, name: &str) -> Path {
        if name.is_empty() { self.prefix.clone() } else { self.prefix.clone().join(name) }
    }

    fn failed(&self, doing: &str, name: &str, error: &StoreError) -> Error {
        (self.explain)(&format!("cannot {doing} {}", self.place(name)), error)
    }

    /// Makes a request of which nothing is known but whether it succeeded, and waits.
    fn ask<T, F>(
        &self,
        doing: &str,
        name: &str,
        request: impl Fn(Arc<dyn Store>, Path) -> F + Send + Sync + 'static,
    ) -> Result<StoreResult<T>>
    where
        T: Send + 'static,
        F: Future<Output = StoreResult<T>> + Send + 'static,
    {
        let (store, path, what, patience) = (self.store.clone(), self.path(name), format!("{doing} {}", self.place(name)), self.patience);
        begin(async move { patiently(&what, patience, || request(store.clone(), path.clone()).boxed()).await })?.wait()
    }

    fn put(&self, name: &str, bytes: Bytes, mode: PutMode) -> Result<StoreResult<PutResult>> {
        let payload = PutPayload::from(bytes);
        self.ask("write", name, move |store, path| {
            let (payload, mode) = (payload.clone(), mode.clone());
            async move { store.put_opts(&path, payload, mode.into()).await }
        })
    }

    /// A whole object in one request, with its ETag.
    fn get(&self, name: &str) -> Result<Option<(Bytes, Option<String>)>> {
        let got = self.ask("read", name, |store, path| async move {
            let got = store.get(&path).await?;
            let e_tag = got.meta.e_tag.clone();
            Ok((got.bytes().await?, e_tag))
        })?;
        self.or_none(name, got)
    }

    /// `None` if there is no such object. (A bucket that is missing is an error.)
    fn or_none<T>(&self, name: &str, got: StoreResult<T>) -> Result<Option<T>> {
        match got {
            Ok(got) => Ok(Some(got)),
            Err(e) if is_missing(&e) => Ok(None),
            Err(e) => Err(self.failed("read", name, &e)),
        }
    }

    fn ranges(&self, name: &str, range: Range<u64>) -> Result<StoreResult<Bytes>> {
        if range.is_empty() {
            return Ok(Ok(Bytes::new()));
        }
        let (store, path, what, patience) = (self.store.clone(), self.path(name), format!("read {}", self.place(name)), self.patience);
        begin(async move {
            let parts = range.clone().step_by(PART).map(|start| start..(start + PART as u64).min(range.end));
            let get = |part: Range<u64>| {
                let (store, path, what) = (store.clone(), path.clone(), &what);
                async move {
                    let request = || {
                        let (store, path, part) = (store.clone(), path.clone(), part.clone());
                        async move { store.get_range(&path, part).await }.boxed()
                    };
                    patiently(what, patience, request).await
                }
            };
            let mut parts = futures::stream::iter(parts).map(get).buffered(AT_ONCE);
            let mut all = BytesMut::new();
            while let Some(part) = parts.try_next().await? {
                if part.len() as u64 == range.end - range.start {
                    return Ok(part);
                }
                all.reserve(if all.is_empty() { (range.end - range.start) as usize } else { 0 });
                all.extend_from_slice(&part);
            }
            Ok(all.freeze())
        })?
        .wait()
    }

    /// Whether an object has this content: a request whose answer was lost has succeeded if it has. `None`: there is none.
    fn is(&self, name: &str, bytes: &[u8]) -> Result<Option<bool>> {
        Ok(self.get(name)?.map(|(found, _)| found == bytes))
    }

    fn list_all(&self) -> Result<object_store::ListResult> {
        let listed = self.ask("list", "", |store, path| async move { store.list_with_delimiter(Some(&path)).await })?;
        listed.map_err(|e| self.failed("list", "", &e))
    }
}

/// Whether it is the object that is missing, and not what it would be in. An answer to HEAD does not say.
fn is_missing(error: &StoreError) -> bool {
    let text = error.to_string();
    matches!(error, StoreError::NotFound { .. }) && (!text.contains("<Code>") || text.contains("<Code>NoSuchKey<"))
}

impl Storage for Objects {
    fn prepare(&self) -> Result<()> {
        let asked = self.ask("list", "", |store, path| async move { store.list(Some(&path)).next().await.transpose() })?;
        asked.map(|_| ()).map_err(|e| {
            let error = self.failed("list", "", &e);
            // Wrong keys and names do not get better: no restart mends them.
            if may_pass(&e) { error } else { error.last() }
        })
    }

    fn create(&self, name: &str, bytes: &[u8]) -> Result<()> {
        if bytes.len() > PART {
            let mut writer = self.writer(name)?;
            writer.write_all(bytes)?;
            return writer.finish();
        }
        fail::point("state-half-written");
        for _ in 0..10 {
            match self.put(name, Bytes::copy_from_slice(bytes), PutMode::Create)? {
                Ok(_) => return Ok(()),
                Err(StoreError::AlreadyExists { .. }) => match self.is(name, bytes)? {
                    Some(true) => return Ok(()),
                    Some(false) => return Err(exists(&self.place(name))),
                    // S3's 409: somebody else was deleting or writing it at that moment.
                    None => std::thread::sleep(Duration::from_millis(100)),
                },
                Err(e) => return Err(self.failed("write", name, &e)),
            }
        }
        Err(Error::runtime(format!("cannot write {}: others write or delete it again and again", self.place(name))))
    }

    /// That nothing is there is asked first: S3 has no condition for objects in parts that all its servers know. Names of state files
    /// are of one start of the job only.
    fn writer(&self, name: &str) -> Result<Box<dyn Writer>> {
        if self.size(name)?.is_some() {
            return Err(exists(&self.place(name)));
        }
        let (objects, name) = (self.clone(), name.to_owned());
        Ok(Box::new(Upload { objects, name, buffer: Vec::new(), id: None, begun: 0, flying: VecDeque::new(), done: vec![], bytes: 0 }))
    }

    fn replace(&self, name: &str, bytes: &[u8], seen: Option<&Version>) -> Result<Version> {
        let mode = || match seen {
            None => PutMode::Create,
            Some(Version(e_tag)) => PutMode::Update(UpdateVersion { e_tag: Some(e_tag.clone()), version: None }),
        };
        for _ in 0..10 {
            match self.put(name, Bytes::copy_from_slice(bytes), mode())? {
                Ok(PutResult { e_tag: Some(e_tag), .. }) => return Ok(Version(e_tag)),
                Ok(_) => {
                    return Err(Error::unsupported(format!("{}: an object store that gives no ETags", self.root)).into_runtime());
                }
                Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {}
                Err(e) => return Err(self.failed("write", name, &e)),
            }
            match (self.get(name)?, seen) {
                // It was written, only the answer was lost.
                (Some((found, Some(e_tag))), _) if found == bytes => return Ok(Version(e_tag)),
                // S3's 409: somebody else was at it, but in vain.
                (Some((_, Some(e_tag))), Some(Version(seen))) if e_tag == *seen => {}
                (None, None) => {}
                _ => return Err(taken_over(&self.place(name))),
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err(taken_over(&self.place(name)))
    }

    fn read_record(&self, name: &str) -> Result<Option<(Vec<u8>, Version)>> {
        let Some((bytes, e_tag)) = self.get(name)? else { return Ok(None) };
        let e_tag =
            e_tag.ok_or_else(|| Error::unsupported(format!("{}: an object store that gives no ETags", self.root)).into_runtime())?;
        Ok(Some((bytes.to_vec(), Version(e_tag))))
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let first = self.ask("read", name, |store, path| async move {
            let options = GetOptions { range: Some(GetRange::Bounded(0..PART as u64)), ..GetOptions::default() };
            let got = store.get_opts(&path, options).await?;
            let size = got.meta.size;
            Ok((got.bytes().await?, size))
        })?;
        let first = match first {
            // There is no range of an empty object.
            Err(e @ StoreError::Generic { .. }) if !may_pass(&e) && self.size(name)? == Some(0) => return Ok(Some(vec![])),
            first => self.or_none(name, first)?,
        };
        let Some((first, size)) = first else { return Ok(None) };
        let rest = self.ranges(name, first.len() as u64..size)?.map_err(|e| self.failed("read", name, &e))?;
        let mut all = Vec::with_capacity(first.len() + rest.len());
        all.extend_from_slice(&first);
        all.extend_from_slice(&rest);
        Ok(Some(all))
    }

    fn size(&self, name: &str) -> Result<Option<u64>> {
        let asked = self.ask("read", name, |store, path| async move { Ok(store.head(&path).await?.size) })?;
        self.or_none(name, asked)
    }

    fn read_range(&self, name: &str, range: Range<u64>) -> Result<Bytes> {
        self.ranges(name, range)?.map_err(|e| self.failed("read", name, &e))
    }

    fn list(&self) -> Result<Vec<(String, u64)>> {
        let objects = self.list_all()?.objects;
        Ok(objects.into_iter().filter_map(|o| Some((o.location.filename()?.to_owned(), o.size))).collect())
    }

    fn folders(&self) -> Result<Vec<String>> {
        Ok(self.list_all()?.common_prefixes.iter().filter_map(|p| p.filename().map(str::to_owned)).collect())
    }

    fn folder(&self, name: &str) -> Arc<dyn Storage> {
        Arc::new(Self { prefix: self.path(name), ..self.clone() })
    }

    fn delete(&self, name: &str) -> Result<()> {
        match self.ask("delete", name, |store, path| async move { store.delete(&path).await })? {
            Ok(()) => Ok(()),
            Err(e) if is_missing(&e) => Ok(()),
            Err(e) => Err(self.failed("delete", name, &e)),
        }
    }

    fn remove(&self) -> Result<()> {
        Ok(())
    }

    fn place(&self, name: &str) -> String {
        format!("{}/{}", self.root, self.path(name)).trim_end_matches('/').to_owned()
    }
}

/// An object that is sent in parts, or at once if it is small.
struct Upload {
    objects: Objects,
    name: String,
    buffer: Vec<u8>,
    id: Option<MultipartId>,
    /// Parts begun.
    begun: usize,
    flying: VecDeque<Begun<StoreResult<PartId>>>,
    done: Vec<PartId>,
    bytes: u64,
}

impl Upload {
    fn part_size(&self) -> usize {
        if self.begun < LARGER_FROM { PART } else { 8 * PART }
    }

    fn failed(&self, error: &StoreError) -> Error {
        self.objects.failed("write", &self.name, error)
    }

    fn send_part(&mut self) -> Result<()> {
        let id = match &self.id {
            Some(id) => id.clone(),
            None => {
                let began = self.objects.ask("write", &self.name, |store, path| async move { store.create_multipart(&path).await })?;
                let id = began.map_err(|e| self.failed(&e))?;
                self.id = Some(id.clone());
                id
            }
        };
        while self.flying.len() >= AT_ONCE {
            self.land_part()?;
        }
        let payload = PutPayload::from(Bytes::from(std::mem::take(&mut self.buffer)));
        let (store, path, number) = (self.objects.store.clone(), self.objects.path(&self.name), self.begun);
        let patience = self.objects.patience;
        let what = format!("write part {number} of {}", self.objects.place(&self.name));
        self.flying.push_back(begin(async move {
            let request = || -> BoxFuture<'static, StoreResult<PartId>> {
                let (store, path, id, payload) = (store.clone(), path.clone(), id.clone(), payload.clone());
                async move { store.put_part(&path, &id, number, payload).await }.boxed()
            };
            patiently(&what, patience, request).await
        })?);
        self.begun += 1;
        if self.begun == 1 {
            fail::point("state-half-written");
        }
        Ok(())
    }

    fn land_part(&mut self) -> Result<()> {
        if let Some(part) = self.flying.pop_front() {
            let part = part.wait()?.map_err(|e| self.failed(&e))?;
            self.done.push(part);
        }
        Ok(())
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = bytes.len().min(self.part_size() - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..n]);
        self.bytes += n as u64;
        if self.buffer.len() >= self.part_size() {
            self.send_part().map_err(std::io::Error::other)?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Writer for Upload {
    fn finish(mut self: Box<Self>) -> Result<()> {
        if self.id.is_none() {
            return self.objects.create(&self.name, &self.buffer);
        }
        if !self.buffer.is_empty() {
            self.send_part()?;
        }
        while !self.flying.is_empty() {
            self.land_part()?;
        }
        let (Some(id), parts) = (self.id.clone(), std::mem::take(&mut self.done)) else { return Ok(()) };
        let ended = self.objects.ask("write", &self.name, move |store, path| {
            let (id, parts) = (id.clone(), parts.iter().map(|p| PartId { content_id: p.content_id.clone() }).collect());
            async move { store.complete_multipart(&path, &id, parts).await }
        })?;
        if let Err(e) = ended
            && self.objects.size(&self.name)? != Some(self.bytes)
        {
            return Err(self.failed(&e));
        }
        // Nothing is left to give up.
        self.id = None;
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else { return };
        // Parts of an object that never was cost money.
        while let Some(part) = self.flying.pop_front() {
            let _ = part.wait();
        }
        let given_up = self.objects.ask("give up", &self.name, move |store, path| {
            let id = id.clone();
            async move { store.abort_multipart(&path, &id).await }
        });
        if let Ok(Err(e)) = given_up {
            tracing::warn!("{}", self.objects.failed("give up the parts of", &self.name, &e));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_object_store_behaves() {
        let explain = Arc::new(|what: &str, e: &StoreError| Error::runtime(format!("{what}: {e}")));
        let objects = Objects {
            store: Arc::new(object_store::memory::InMemory::new()),
            root: "s3://b".into(),
            prefix: Path::from("x/y"),
            explain,
            patience: Duration::from_secs(1),
        };
        let storage: Arc<dyn Storage> = Arc::new(objects.clone());
        super::super::tests::behaves(&storage);
        // The same write again, as after a lost answer, is none of somebody else's.
        storage.create("again", b"1").unwrap();
        storage.create("again", b"1").unwrap();
        let first = storage.replace("lost", b"1", None).unwrap();
        storage.replace("lost", b"1", None).unwrap();
        storage.replace("lost", b"2", Some(&first)).unwrap();
        storage.replace("lost", b"2", Some(&first)).unwrap();
        assert!(storage.replace("lost", b"3", Some(&first)).unwrap_err().is_last());
        // Another folder with the same beginning is another one.
        objects.folder("a").create("f", b"1").unwrap();
        objects.folder("ab").create("f", b"1").unwrap();
        assert_eq!(objects.folder("a").list().unwrap().len(), 1);
    }
}
