//! A stored file as the Parquet reader wants it.

use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, Length};
use sluice_batch::{Error, Result};

use super::Storage;

const BLOCK: u64 = 4 << 20;
/// Pages of a few columns are read in turns.
const HELD: usize = 8;
/// The same where many files are read at once.
const SMALL_BLOCK: u64 = 1 << 20;
const FEW_HELD: usize = 3;

/// Reads a file in large blocks, of which the last few are held: a request to an object store is dear.
#[derive(Clone)]
pub struct Input {
    storage: Arc<dyn Storage>,
    name: String,
    size: u64,
    block: u64,
    held: usize,
    /// By number, the last used at the end.
    blocks: Arc<Mutex<Vec<(u64, Bytes)>>>,
}

impl Input {
    /// # Errors
    /// If there is no such file, or it cannot be asked for.
    pub fn open(storage: &Arc<dyn Storage>, name: &str) -> Result<Self> {
        Self::with(storage, name, BLOCK, HELD)
    }

    /// One of many: it holds less.
    ///
    /// # Errors
    /// As [`Input::open`].
    pub fn open_one_of_many(storage: &Arc<dyn Storage>, name: &str) -> Result<Self> {
        Self::with(storage, name, SMALL_BLOCK, FEW_HELD)
    }

    fn with(storage: &Arc<dyn Storage>, name: &str, block: u64, held: usize) -> Result<Self> {
        let size = storage.size(name)?.ok_or_else(|| Error::runtime(format!("{} is missing", storage.place(name))))?;
        Ok(Self { storage: storage.clone(), name: name.to_owned(), size, block, held, blocks: Arc::default() })
    }

    fn block(&self, number: u64) -> Result<Bytes> {
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let held = blocks.iter().position(|(n, _)| *n == number).map(|at| blocks.remove(at));
        let block = match held {
            Some(held) => held,
            None => (number, self.storage.read_range(&self.name, number * self.block..((number + 1) * self.block).min(self.size))?),
        };
        if blocks.len() >= self.held {
            blocks.remove(0);
        }
        blocks.push(block.clone());
        Ok(block.1)
    }

    /// From `at` to the end of its block, or nothing at the end of the file.
    fn rest_of_block(&self, at: u64) -> Result<Bytes> {
        if at >= self.size {
            return Ok(Bytes::new());
        }
        let block = self.block(at / self.block)?;
        let start = (at % self.block) as usize;
        Ok(if start < block.len() { block.slice(start..) } else { Bytes::new() })
    }
}

impl Length for Input {
    fn len(&self) -> u64 {
        self.size
    }
}

fn external(error: Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

impl ChunkReader for Input {
    type T = Bytewise;

    fn get_read(&self, start: u64) -> ParquetResult<Bytewise> {
        let now = self.rest_of_block(start).map_err(external)?;
        Ok(Bytewise { input: self.clone(), at: start + now.len() as u64, now })
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let mut first = self.rest_of_block(start).map_err(external)?;
        if first.len() >= length {
            first.truncate(length);
            return Ok(first);
        }
        let mut bytes = BytesMut::with_capacity(length);
        bytes.extend_from_slice(&first);
        while bytes.len() < length {
            let next = self.rest_of_block(start + bytes.len() as u64).map_err(external)?;
            if next.is_empty() {
                return Err(ParquetError::EOF(format!("{} ends before its time", self.storage.place(&self.name))));
            }
            bytes.extend_from_slice(&next[..next.len().min(length - bytes.len())]);
        }
        Ok(bytes.freeze())
    }
}

/// Reads on from a place.
pub struct Bytewise {
    input: Input,
    at: u64,
    now: Bytes,
}

impl Read for Bytewise {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.now.is_empty() {
            self.now = self.input.rest_of_block(self.at).map_err(std::io::Error::other)?;
            self.at += self.now.len() as u64;
        }
        let n = into.len().min(self.now.len());
        into[..n].copy_from_slice(&self.now.split_to(n));
        Ok(n)
    }
}
