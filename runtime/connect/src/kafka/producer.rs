//! A producer: records go to librdkafka's queue; it sends them in batches.

use std::ffi::{CString, c_void};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as sys;
use sluice_batch::{Error, Result};
use sys::rd_kafka_resp_err_t as Code;

use super::client::{Client, describe};
use super::gate::{Closed, Gate, Held};
use super::properties::{Properties, Role};
use super::transaction::Transaction;
use crate::Later;

/// librdkafka's choice of a partition.
pub(crate) const ANY_PARTITION: i32 = -1;

pub(crate) struct Producer {
    /// Released before the client.
    topics: Vec<(String, Topic)>,
    client: Arc<Client>,
    /// Closed while a commit is under way.
    gate: Arc<Gate>,
    /// What waits for the gate.
    held: Held,
    patience: Duration,
    unserved: usize,
}

struct Topic(*mut sys::rd_kafka_topic_t);

// SAFETY: as for Client.
unsafe impl Send for Topic {}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: owned.
        unsafe { sys::rd_kafka_topic_destroy(self.0) }
    }
}

/// A record to send.
#[derive(Clone, Copy, Default)]
pub(crate) struct Outgoing<'a> {
    pub partition: Option<i32>,
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Milliseconds; `None`: now.
    pub timestamp: Option<i64>,
    pub headers: &'a [(&'a [u8], Option<&'a [u8]>)],
}

impl Producer {
    pub fn new(properties: &Properties, servers: &str, patience: Duration) -> Result<Self> {
        let client = Client::producer(properties.config(Role::Producer, &[])?, servers)?;
        Ok(Self { topics: vec![], client: Arc::new(client), gate: Arc::default(), held: Held::default(), patience, unserved: 0 })
    }

    /// Writes into the transaction of a job.
    pub fn within(transaction: &Transaction, patience: Duration) -> Self {
        let (client, gate) = (transaction.client.clone(), transaction.gate.clone());
        Self { topics: vec![], client, gate, held: Held::default(), patience, unserved: 0 }
    }

    /// A topic to write to, and how many partitions it has. Asking for it creates it where the brokers are set so.
    ///
    /// # Errors
    /// If no broker answers, or there is no such topic.
    pub fn topic(&mut self, name: &str) -> Result<(usize, i32)> {
        let mut tries = 0;
        let partitions = loop {
            let metadata = self.client.metadata(Some(name), self.patience)?;
            match metadata.into_iter().next() {
                Some(topic) if topic.error.is_none() && !topic.partitions.is_empty() => break topic.partitions.len(),
                Some(topic) if tries > 400 => {
                    let reason = topic.error.map_or_else(|| "it has no partitions".into(), |(_, text)| text);
                    return Err(Error::runtime(format!("cannot write to topic '{name}': {reason}")));
                }
                _ => {
                    tries += 1;
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        };
        let c_name = CString::new(name).map_err(|_| Error::runtime(format!("{name:?} is no topic")))?;
        // SAFETY: the handle is valid; the topic is released in Drop.
        let topic = unsafe { sys::rd_kafka_topic_new(self.client.raw(), c_name.as_ptr(), std::ptr::null_mut()) };
        if topic.is_null() {
            return Err(Error::runtime(format!("cannot write to topic '{name}'")));
        }
        self.topics.push((name.to_owned(), Topic(topic)));
        Ok((self.topics.len() - 1, i32::try_from(partitions).unwrap_or(i32::MAX)))
    }

    /// The number of a topic that was asked for before.
    pub fn find(&self, name: &[u8]) -> Option<usize> {
        self.topics.iter().position(|(n, _)| n.as_bytes() == name)
    }

    /// Queues a record; waits while the queue is full. While a commit is under way it is only kept.
    ///
    /// # Errors
    /// If an earlier record was not taken, or this one cannot be (too large).
    pub fn send(&mut self, topic: usize, record: &Outgoing<'_>) -> Result<()> {
        self.gate.mark();
        if self.gate.is_open() && self.held.is_empty() {
            return self.pass(topic, record);
        }
        if self.held.is_full() {
            self.release()?;
        } else {
            self.try_release()?;
        }
        if self.held.is_empty() && self.gate.is_open() {
            return self.pass(topic, record);
        }
        self.held.push(topic, record);
        Ok(())
    }

    /// Sends what was kept, as soon as it may be; after a failed commit it never is.
    ///
    /// # Errors
    /// As [`Producer::send`].
    pub fn release(&mut self) -> Result<()> {
        while self.gate.is_closed() {
            self.client.check()?;
            std::thread::sleep(Duration::from_micros(200));
        }
        self.try_release()
    }

    /// Sends what was kept if no commit is under way.
    ///
    /// # Errors
    /// As [`Producer::send`].
    pub fn try_release(&mut self) -> Result<()> {
        if self.held.is_empty() || !self.gate.is_open() {
            return Ok(());
        }
        let held = std::mem::take(&mut self.held);
        held.each(|topic, record| self.pass(topic, record))
    }

    fn pass(&mut self, topic: usize, record: &Outgoing<'_>) -> Result<()> {
        self.unserved += 1;
        if self.unserved >= 1000 {
            self.unserved = 0;
            self.client.serve(Duration::ZERO)?;
        }
        loop {
            match self.try_send(topic, record)? {
                Code::RD_KAFKA_RESP_ERR_NO_ERROR => return Ok(()),
                Code::RD_KAFKA_RESP_ERR__QUEUE_FULL => self.client.serve(Duration::from_millis(10))?,
                code => {
                    let name = self.topics.get(topic).map_or("", |t| &t.0);
                    return Err(Error::runtime(format!("cannot write to topic '{name}': {}", describe(code))));
                }
            }
        }
    }

    fn try_send(&mut self, topic: usize, record: &Outgoing<'_>) -> Result<Code> {
        let (_, Topic(rkt)) = self.topics.get(topic).ok_or_else(|| Error::runtime("no such topic"))?;
        let bytes = |b: Option<&[u8]>| b.map_or((std::ptr::null_mut::<c_void>(), 0usize), |b| (b.as_ptr().cast_mut().cast(), b.len()));
        let ((value, value_len), (key, key_len)) = (bytes(record.value), bytes(record.key));
        let headers = headers(record.headers);
        // SAFETY: handles are valid; the tags are followed by values of their C types; librdkafka copies key and value
        // (MSG_F_COPY) and takes the headers if it succeeds.
        unsafe {
            use sys::rd_kafka_vtype_t as Tag;
            let code = sys::rd_kafka_producev(
                self.client.raw(),
                Tag::RD_KAFKA_VTYPE_RKT,
                *rkt,
                Tag::RD_KAFKA_VTYPE_PARTITION,
                record.partition.unwrap_or(ANY_PARTITION),
                Tag::RD_KAFKA_VTYPE_MSGFLAGS,
                sys::RD_KAFKA_MSG_F_COPY,
                Tag::RD_KAFKA_VTYPE_VALUE,
                value,
                value_len,
                Tag::RD_KAFKA_VTYPE_KEY,
                key,
                key_len,
                Tag::RD_KAFKA_VTYPE_TIMESTAMP,
                record.timestamp.unwrap_or(0),
                Tag::RD_KAFKA_VTYPE_HEADERS,
                headers,
                Tag::RD_KAFKA_VTYPE_END,
            );
            if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR && !headers.is_null() {
                sys::rd_kafka_headers_destroy(headers);
            }
            Ok(code)
        }
    }

    /// Waits until everything is with the brokers.
    ///
    /// # Errors
    /// If a record was not taken.
    pub fn flush(&self, timeout: Duration) -> Result<()> {
        self.client.flush(timeout)
    }
}

/// Of a producer of its own.
impl Producer {
    /// What is sent from now on waits until everything sent so far is with the brokers; that is waited for by what this answers.
    pub fn flush_later(&self, timeout: Duration) -> Later {
        let (client, gate) = (self.client.clone(), Closed::new(&self.gate));
        Box::new(move || {
            client.flush(timeout)?;
            gate.open();
            Ok(())
        })
    }
}

fn headers(list: &[(&[u8], Option<&[u8]>)]) -> *mut sys::rd_kafka_headers_t {
    if list.is_empty() {
        return std::ptr::null_mut();
    }
    // SAFETY: names and values have their sizes; librdkafka copies both.
    unsafe {
        let headers = sys::rd_kafka_headers_new(list.len());
        for (name, value) in list {
            let (data, size) = value.map_or((std::ptr::null(), 0), |v| (v.as_ptr().cast(), v.len() as isize));
            sys::rd_kafka_header_add(headers, name.as_ptr().cast(), name.len() as isize, data, size);
        }
        headers
    }
}
