//! Offsets of partitions, as arguments and answers, and a consumer group's committed ones.

use std::ffi::{CStr, c_int, c_void};
use std::time::{Duration, Instant};

use rdkafka::bindings as sys;
use sluice_batch::{Error, Result};
use sys::rd_kafka_resp_err_t as Code;

use super::client::{Client, c_string, describe, timeout_ms};

/// A partition with an offset: an argument, an answer, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicOffset {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
}

/// A list of partitions in C.
pub(super) struct List<'a> {
    pub raw: *mut sys::rd_kafka_topic_partition_list_t,
    /// The metadata that elements point to; empty if they own theirs.
    borrowed: &'a [(TopicOffset, String)],
}

impl List<'static> {
    pub fn new(offsets: &[TopicOffset]) -> Result<Self> {
        let list = Self::empty(offsets.len());
        offsets.iter().try_for_each(|o| list.add(o).map(drop))?;
        Ok(list)
    }

    fn empty(size: usize) -> Self {
        // SAFETY: owned until Drop.
        Self { raw: unsafe { sys::rd_kafka_topic_partition_list_new(c_int::try_from(size).unwrap_or(0)) }, borrowed: &[] }
    }
}

impl<'a> List<'a> {
    /// Offsets with metadata.
    pub fn with_metadata(offsets: &'a [(TopicOffset, String)]) -> Result<Self> {
        let mut list: List<'a> = List::empty(offsets.len());
        list.borrowed = offsets;
        for (offset, metadata) in offsets {
            let element = list.add(offset)?;
            // SAFETY: a valid element; librdkafka reads the text and copies it. Drop takes it away before the list releases it.
            unsafe {
                (*element).metadata = metadata.as_ptr().cast_mut().cast::<c_void>();
                (*element).metadata_size = metadata.len();
            }
        }
        Ok(list)
    }

    fn add(&self, o: &TopicOffset) -> Result<*mut sys::rd_kafka_topic_partition_t> {
        // SAFETY: `add` answers with a valid element of the list.
        unsafe {
            let element = sys::rd_kafka_topic_partition_list_add(self.raw, c_string(&o.topic)?.as_ptr(), o.partition);
            (*element).offset = o.offset;
            Ok(element)
        }
    }

    fn len(&self) -> usize {
        // SAFETY: the list is valid as long as `self`.
        usize::try_from(unsafe { (*self.raw).cnt }).unwrap_or(0)
    }

    fn elements(&self) -> &[sys::rd_kafka_topic_partition_t] {
        match self.len() {
            0 => &[],
            // SAFETY: so many elements are there.
            n => unsafe { std::slice::from_raw_parts((*self.raw).elems, n) },
        }
    }

    fn elements_mut(&mut self) -> &mut [sys::rd_kafka_topic_partition_t] {
        match self.len() {
            0 => &mut [],
            // SAFETY: so many elements are there, and nobody else borrows them.
            n => unsafe { std::slice::from_raw_parts_mut((*self.raw).elems, n) },
        }
    }

    pub fn read(&self) -> Result<Vec<TopicOffset>> {
        Ok(self.read_metadata()?.into_iter().map(|(offset, _)| offset).collect())
    }

    /// Offsets and what was committed with them.
    pub fn read_metadata(&self) -> Result<Vec<(TopicOffset, String)>> {
        let read = |e: &sys::rd_kafka_topic_partition_t| {
            // SAFETY: NUL-terminated.
            let topic = unsafe { CStr::from_ptr(e.topic) }.to_string_lossy().into_owned();
            if e.err != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Err(Error::runtime(format!("{topic}-{}: {}", e.partition, describe(e.err))));
            }
            let metadata = if e.metadata.is_null() || e.metadata_size == 0 {
                String::new()
            } else {
                // SAFETY: `metadata_size` bytes are there.
                let bytes = unsafe { std::slice::from_raw_parts(e.metadata.cast::<u8>(), e.metadata_size) };
                String::from_utf8_lossy(bytes).into_owned()
            };
            Ok((TopicOffset { topic, partition: e.partition, offset: e.offset }, metadata))
        };
        self.elements().iter().map(read).collect()
    }
}

impl Drop for List<'_> {
    fn drop(&mut self) {
        if !self.borrowed.is_empty() {
            for element in self.elements_mut() {
                (element.metadata, element.metadata_size) = (std::ptr::null_mut(), 0);
            }
        }
        // SAFETY: owned.
        unsafe { sys::rd_kafka_topic_partition_list_destroy(self.raw) }
    }
}

/// Brokers that do not answer now, or a coordinator that is not yet known or loaded.
fn will_pass(code: Code) -> bool {
    matches!(
        code,
        Code::RD_KAFKA_RESP_ERR__TRANSPORT
            | Code::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN
            | Code::RD_KAFKA_RESP_ERR__TIMED_OUT
            | Code::RD_KAFKA_RESP_ERR__WAIT_COORD
            | Code::RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE
            | Code::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT
            | Code::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE
            | Code::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS
            | Code::RD_KAFKA_RESP_ERR_NOT_COORDINATOR
    )
}

impl Client {
    /// The group's committed offsets; negative where there is none.
    ///
    /// # Errors
    /// If the coordinator does not answer within `timeout`.
    pub fn committed(&self, partitions: &[TopicOffset], timeout: Duration) -> Result<Vec<TopicOffset>> {
        Ok(self.committed_metadata(partitions, timeout)?.into_iter().map(|(offset, _)| offset).collect())
    }

    /// The same with the metadata.
    ///
    /// # Errors
    /// If the coordinator does not answer within `timeout`.
    pub fn committed_metadata(&self, partitions: &[TopicOffset], timeout: Duration) -> Result<Vec<(TopicOffset, String)>> {
        if partitions.is_empty() {
            return Ok(vec![]);
        }
        let started = Instant::now();
        loop {
            let list = List::new(partitions)?;
            let left = timeout.saturating_sub(started.elapsed());
            // SAFETY: handle and list are valid.
            match unsafe { sys::rd_kafka_committed(self.raw(), list.raw, timeout_ms(left)) } {
                Code::RD_KAFKA_RESP_ERR_NO_ERROR => return list.read_metadata(),
                // A coordinator that is just being found, or comes back.
                code if will_pass(code) && started.elapsed() < timeout => std::thread::sleep(Duration::from_millis(100)),
                code => return Err(self.fail("reading the group's committed offsets", code)),
            }
        }
    }

    /// Commits offsets of the group; does not wait for the answer.
    pub fn commit(&self, offsets: &[TopicOffset]) -> Result<()> {
        let list = List::new(offsets)?;
        // SAFETY: handle and list are valid.
        match unsafe { sys::rd_kafka_commit(self.raw(), list.raw, 1) } {
            Code::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
            code => Err(self.fail("committing offsets", code)),
        }
    }

    /// Commits offsets of the group with metadata and waits for the answer. `false`: the brokers do not answer now.
    ///
    /// # Errors
    /// If they refuse.
    pub fn commit_wait(&self, offsets: &[(TopicOffset, String)]) -> Result<bool> {
        let list = List::with_metadata(offsets)?;
        // SAFETY: handle and list are valid.
        match unsafe { sys::rd_kafka_commit(self.raw(), list.raw, 0) } {
            Code::RD_KAFKA_RESP_ERR_NO_ERROR => {}
            code if will_pass(code) => return Ok(false),
            code => return Err(self.fail("committing offsets", code)),
        }
        // The answer may be of one partition.
        match list.elements().iter().find(|e| e.err != Code::RD_KAFKA_RESP_ERR_NO_ERROR) {
            None => Ok(true),
            Some(e) => Err(self.fail("committing offsets", e.err)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lists_carry_offsets_and_metadata() {
        let offset = |topic: &str, offset| TopicOffset { topic: topic.into(), partition: 3, offset };
        let given = vec![(offset("a", 5), "{\"epoch\":1}".to_owned()), (offset("b", -1), String::new())];
        assert_eq!(List::with_metadata(&given).unwrap().read_metadata().unwrap(), given);
        assert_eq!(List::new(&[offset("a", 5)]).unwrap().read().unwrap(), [offset("a", 5)]);
        assert!(List::new(&[]).unwrap().read().unwrap().is_empty());
        assert!(List::new(&[offset("a\0", 5)]).is_err());
    }
}
