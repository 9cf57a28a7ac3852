//! librdkafka's C interface, as far as it is used, in safe clothes.
//!
//! The `rdkafka` crate polls one message a call and sends log lines and errors through its own event loop; reading in batches
//! (`rd_kafka_consume_batch_queue`) needs the C functions, so both clients use them.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::bindings as sys;
use sluice_batch::{Error, Result};
use sys::rd_kafka_resp_err_t as Code;

use super::oauth::Login;
use super::offsets::List;
pub(crate) use super::offsets::TopicOffset;
use super::token;

pub(crate) const OFFSET_BEGINNING: i64 = -2;
pub(crate) const OFFSET_END: i64 = -1;
/// How long a producer waits for brokers without a word.
const SILENT: Duration = Duration::from_secs(10);

/// What librdkafka calls an error: `Local: Broker transport failure`.
pub(crate) fn describe(code: Code) -> String {
    // SAFETY: rd_kafka_err2str answers with a static string for every code.
    unsafe { CStr::from_ptr(sys::rd_kafka_err2str(code)) }.to_string_lossy().into_owned()
}

pub(super) fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::runtime(format!("{text:?} has a NUL character")))
}

pub(super) fn timeout_ms(timeout: Duration) -> c_int {
    c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX)
}

/// A configuration under construction.
pub(crate) struct Config {
    raw: *mut sys::rd_kafka_conf_t,
    /// Tokens that the client logs in with.
    pub login: Option<Login>,
}

pub(crate) enum ConfigError {
    UnknownName,
    /// librdkafka's words.
    WrongValue(String),
}

impl Config {
    pub fn new() -> Self {
        // SAFETY: allocates; owned until Drop or `into_raw`.
        Self { raw: unsafe { sys::rd_kafka_conf_new() }, login: None }
    }

    /// # Errors
    /// If librdkafka does not know the name or does not like the value.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        let (Ok(name), Ok(value)) = (CString::new(name), CString::new(value)) else { return Err(ConfigError::UnknownName) };
        let mut text = [0 as c_char; 512];
        // SAFETY: pointers are valid for the call; the buffer's length is given.
        let result = unsafe { sys::rd_kafka_conf_set(self.raw, name.as_ptr(), value.as_ptr(), text.as_mut_ptr(), text.len()) };
        match result {
            sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK => Ok(()),
            sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_UNKNOWN => Err(ConfigError::UnknownName),
            // SAFETY: librdkafka ends the text with NUL within the buffer.
            _ => Err(ConfigError::WrongValue(unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy().into_owned())),
        }
    }

    fn into_raw(mut self) -> *mut sys::rd_kafka_conf_t {
        std::mem::replace(&mut self.raw, std::ptr::null_mut())
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        if !self.raw.is_null() {
            // SAFETY: still owned.
            unsafe { sys::rd_kafka_conf_destroy(self.raw) }
        }
    }
}

/// What librdkafka's callbacks leave for the task.
#[derive(Default)]
struct Shared {
    /// The last error of a connection.
    last: Mutex<Option<String>>,
    /// An error after which the client cannot go on.
    fatal: Mutex<Option<String>>,
    /// The first record that could not be delivered.
    undelivered: Mutex<Option<String>>,
    failed: AtomicBool,
    /// The fatal error says that another producer has taken the transactional id.
    fenced: AtomicBool,
    undelivered_count: AtomicU64,
    login: Option<Login>,
}

/// How the client of a callback logs in, and where it notes what went wrong.
///
/// # Safety
/// `opaque` must be what librdkafka gives to a callback of a [`Client`], during the call.
pub(super) unsafe fn login<'a>(opaque: *mut c_void) -> Option<(&'a Login, impl Fn(String))> {
    // SAFETY: as said above.
    let shared = unsafe { &*opaque.cast::<Shared>() };
    shared.login.as_ref().map(|login| (login, |text| store(&shared.last, text, false)))
}

fn store(slot: &Mutex<Option<String>>, text: String, keep_first: bool) {
    if let Ok(mut slot) = slot.lock()
        && !(keep_first && slot.is_some())
    {
        *slot = Some(text);
    }
}

unsafe extern "C" fn on_log(_rk: *const sys::rd_kafka_t, level: c_int, facility: *const c_char, text: *const c_char) {
    // SAFETY: librdkafka gives NUL-terminated strings that live during the call.
    let (facility, text) = unsafe { (CStr::from_ptr(facility).to_string_lossy(), CStr::from_ptr(text).to_string_lossy()) };
    match level {
        // What is fatal comes back as an error; the rest is tried again.
        0..=4 => tracing::warn!(target: "librdkafka", "{facility}: {text}"),
        5 | 6 => tracing::info!(target: "librdkafka", "{facility}: {text}"),
        _ => tracing::debug!(target: "librdkafka", "{facility}: {text}"),
    }
}

unsafe extern "C" fn on_error(rk: *mut sys::rd_kafka_t, code: c_int, reason: *const c_char, opaque: *mut c_void) {
    // SAFETY: `opaque` is the Shared that the client owns and outlives librdkafka's handle; the strings live during the call.
    let (shared, reason) = unsafe { (&*opaque.cast::<Shared>(), CStr::from_ptr(reason).to_string_lossy()) };
    if code == Code::RD_KAFKA_RESP_ERR__FATAL as c_int {
        let mut text = [0 as c_char; 512];
        // SAFETY: the buffer's length is given.
        let (code, text) = unsafe {
            let code = sys::rd_kafka_fatal_error(rk, text.as_mut_ptr(), text.len());
            (code, CStr::from_ptr(text.as_ptr()).to_string_lossy().into_owned())
        };
        shared.fenced.store(super::transaction::is_fencing(code), Ordering::Release);
        store(&shared.fatal, text, true);
        shared.failed.store(true, Ordering::Release);
    } else {
        tracing::debug!(target: "librdkafka", "{reason}");
        store(&shared.last, reason.into_owned(), false);
    }
}

unsafe extern "C" fn on_delivery(_rk: *mut sys::rd_kafka_t, message: *const sys::rd_kafka_message_t, opaque: *mut c_void) {
    // SAFETY: as for `on_error`; the message lives during the call, its topic as long as the message.
    unsafe {
        let (shared, message) = (&*opaque.cast::<Shared>(), &*message);
        if message.err == Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return;
        }
        let topic = CStr::from_ptr(sys::rd_kafka_topic_name(message.rkt)).to_string_lossy();
        store(&shared.undelivered, format!("a record for topic {topic} was not taken: {}", describe(message.err)), true);
        shared.undelivered_count.fetch_add(1, Ordering::Relaxed);
        shared.failed.store(true, Ordering::Release);
    }
}

/// A topic as the brokers know it.
#[derive(Clone, Debug)]
pub(crate) struct TopicMetadata {
    pub name: String,
    pub partitions: Vec<i32>,
    pub error: Option<(Code, String)>,
}

/// A connection to a Kafka cluster: consumer or producer.
pub(crate) struct Client {
    rk: *mut sys::rd_kafka_t,
    /// The consumer's queue; null for producers.
    queue: *mut sys::rd_kafka_queue_t,
    shared: Box<Shared>,
    pub servers: String,
}

// SAFETY: librdkafka's handles may be used from any thread, by several at once; Shared is behind locks.
unsafe impl Send for Client {}
// SAFETY: as above.
unsafe impl Sync for Client {}

impl Client {
    pub fn consumer(config: Config, servers: &str) -> Result<Self> {
        let mut client = Self::new(config, sys::rd_kafka_type_t::RD_KAFKA_CONSUMER, servers)?;
        // SAFETY: the handle is valid; the queue is released in Drop before it.
        unsafe {
            sys::rd_kafka_poll_set_consumer(client.rk);
            client.queue = sys::rd_kafka_queue_get_consumer(client.rk);
        }
        if client.queue.is_null() {
            return Err(Error::runtime("librdkafka has made no consumer queue"));
        }
        Ok(client)
    }

    pub fn producer(config: Config, servers: &str) -> Result<Self> {
        Self::new(config, sys::rd_kafka_type_t::RD_KAFKA_PRODUCER, servers)
    }

    fn new(mut config: Config, kind: sys::rd_kafka_type_t, servers: &str) -> Result<Self> {
        if servers.trim().is_empty() {
            return Err(Error::runtime("'properties.bootstrap.servers' is empty").hint("write host:port of a broker"));
        }
        let shared = Box::new(Shared { login: config.login.take(), ..Shared::default() });
        let mut text = [0 as c_char; 512];
        let raw = config.into_raw();
        // SAFETY: the configuration is owned; `rd_kafka_new` takes it if it succeeds. `shared` is boxed, so its address stays.
        let rk = unsafe {
            sys::rd_kafka_conf_set_opaque(raw, std::ptr::from_ref(shared.as_ref()).cast_mut().cast());
            sys::rd_kafka_conf_set_log_cb(raw, Some(on_log));
            sys::rd_kafka_conf_set_error_cb(raw, Some(on_error));
            if shared.login.is_some() {
                token::ask(raw);
            }
            if kind == sys::rd_kafka_type_t::RD_KAFKA_PRODUCER {
                sys::rd_kafka_conf_set_dr_msg_cb(raw, Some(on_delivery));
            }
            sys::rd_kafka_new(kind, raw, text.as_mut_ptr(), text.len())
        };
        if rk.is_null() {
            // SAFETY: on failure the configuration is still ours, and the text is set.
            let text = unsafe {
                sys::rd_kafka_conf_destroy(raw);
                CStr::from_ptr(text.as_ptr()).to_string_lossy().into_owned()
            };
            return Err(Error::runtime(format!("cannot make a Kafka client: {text}")));
        }
        let client = Self { rk, queue: std::ptr::null_mut(), shared, servers: servers.to_owned() };
        if client.shared.login.is_some() {
            token::serve(rk)?;
        }
        Ok(client)
    }

    pub fn raw(&self) -> *mut sys::rd_kafka_t {
        self.rk
    }

    /// What a connection failed with last.
    pub fn last_error(&self) -> Option<String> {
        self.shared.last.lock().ok().and_then(|l| l.clone())
    }

    /// Fails if something has gone wrong in the background for good.
    ///
    /// # Errors
    /// A fatal error, or a record that was not delivered.
    pub fn check(&self) -> Result<()> {
        if !self.shared.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        let read = |slot: &Mutex<Option<String>>| slot.lock().ok().and_then(|s| s.clone());
        if let Some(text) = read(&self.shared.fatal) {
            if self.shared.fenced.load(Ordering::Acquire) {
                return Err(super::transaction::fenced(&text));
            }
            return Err(Error::runtime(format!("Kafka client failed: {text}")));
        }
        let count = self.shared.undelivered_count.load(Ordering::Relaxed);
        let more = if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() };
        Err(Error::runtime(read(&self.shared.undelivered).unwrap_or_default() + &more))
    }

    fn poll(&self, timeout: Duration) {
        // SAFETY: the handle is valid.
        unsafe { sys::rd_kafka_poll(self.rk, timeout_ms(timeout)) };
    }

    pub(super) fn fail(&self, what: &str, code: Code) -> Error {
        let detail = self.last_error().map(|e| format!(": {e}")).unwrap_or_default();
        match code {
            Code::RD_KAFKA_RESP_ERR__TRANSPORT | Code::RD_KAFKA_RESP_ERR__TIMED_OUT | Code::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN => {
                Error::runtime(format!("cannot reach Kafka at {}{detail}", self.servers))
                    .hint("is the broker running, and does 'properties.bootstrap.servers' name it?")
            }
            code => Error::runtime(format!("{what}: {}{detail}", describe(code))),
        }
    }

    /// One topic or all, as the brokers know them.
    ///
    /// # Errors
    /// If no broker answers within `timeout`.
    pub fn metadata(&self, topic: Option<&str>, timeout: Duration) -> Result<Vec<TopicMetadata>> {
        let started = Instant::now();
        loop {
            let left = timeout.saturating_sub(started.elapsed());
            match self.metadata_once(topic, left.min(Duration::from_secs(3)))? {
                Ok(topics) => return Ok(topics),
                // Serves the error callback, so that the message says why.
                Err(code) => {
                    if !self.queue.is_null() {
                        drop(self.consume(1, Duration::ZERO)?);
                    } else {
                        self.poll(Duration::ZERO);
                    }
                    if started.elapsed() >= timeout {
                        return Err(self.fail("reading metadata", code));
                    }
                }
            }
        }
    }

    fn metadata_once(&self, topic: Option<&str>, timeout: Duration) -> Result<Result<Vec<TopicMetadata>, Code>> {
        // SAFETY: handle and topic are valid; the answer is read within its counts and released.
        unsafe {
            let rkt = match topic {
                Some(topic) => sys::rd_kafka_topic_new(self.rk, c_string(topic)?.as_ptr(), std::ptr::null_mut()),
                None => std::ptr::null_mut(),
            };
            let mut answer: *const sys::rd_kafka_metadata_t = std::ptr::null();
            let code = sys::rd_kafka_metadata(self.rk, c_int::from(topic.is_none()), rkt, &raw mut answer, timeout_ms(timeout));
            if !rkt.is_null() {
                sys::rd_kafka_topic_destroy(rkt);
            }
            if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Ok(Err(code));
            }
            let topics = slice((*answer).topics, (*answer).topic_cnt).iter().map(|t| TopicMetadata {
                name: CStr::from_ptr(t.topic).to_string_lossy().into_owned(),
                partitions: slice(t.partitions, t.partition_cnt).iter().map(|p| p.id).collect(),
                error: (t.err != Code::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| (t.err, describe(t.err))),
            });
            let topics = topics.collect();
            sys::rd_kafka_metadata_destroy(answer);
            Ok(Ok(topics))
        }
    }

    /// Asks the brokers for offsets: of the first record with at least a timestamp, or of [`OFFSET_BEGINNING`] or [`OFFSET_END`].
    /// The answer is [`OFFSET_END`] where there is no such record.
    ///
    /// # Errors
    /// If a partition's leader does not answer within `timeout`.
    pub fn offsets_for_times(&self, wanted: &[TopicOffset], timeout: Duration) -> Result<Vec<TopicOffset>> {
        if wanted.is_empty() {
            return Ok(vec![]);
        }
        let list = List::new(wanted)?;
        // SAFETY: handle and list are valid.
        match unsafe { sys::rd_kafka_offsets_for_times(self.rk, list.raw, timeout_ms(timeout)) } {
            Code::RD_KAFKA_RESP_ERR_NO_ERROR => list.read(),
            code => Err(self.fail("reading offsets", code)),
        }
    }

    /// Starts to read further partitions.
    pub fn assign(&self, offsets: &[TopicOffset]) -> Result<()> {
        let list = List::new(offsets)?;
        // SAFETY: handle and list are valid; an error object is ours to release.
        unsafe {
            let error = sys::rd_kafka_incremental_assign(self.rk, list.raw);
            if error.is_null() {
                return Ok(());
            }
            let text = CStr::from_ptr(sys::rd_kafka_error_string(error)).to_string_lossy().into_owned();
            sys::rd_kafka_error_destroy(error);
            Err(Error::runtime(format!("cannot read partitions: {text}")))
        }
    }

    /// Stops to fetch a partition.
    pub fn pause(&self, partition: &TopicOffset) -> Result<()> {
        let list = List::new(std::slice::from_ref(partition))?;
        // SAFETY: handle and list are valid.
        unsafe { sys::rd_kafka_pause_partitions(self.rk, list.raw) };
        Ok(())
    }

    /// The end of a partition as of the last fetch.
    pub fn high_watermark(&self, topic: &str, partition: i32) -> Option<i64> {
        let (topic, mut low, mut high) = (CString::new(topic).ok()?, 0, -1);
        // SAFETY: pointers are valid for the call.
        let code = unsafe { sys::rd_kafka_get_watermark_offsets(self.rk, topic.as_ptr(), partition, &raw mut low, &raw mut high) };
        (code == Code::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
    }

    /// Up to `most` messages: waits for the first up to `timeout`, then as long again at most until there are `most`.
    pub fn consume(&self, most: usize, timeout: Duration) -> Result<Messages> {
        let mut messages = Messages(Vec::with_capacity(most));
        // SAFETY: the queue is valid, the buffer has room for `most` pointers; what is counted is initialised.
        unsafe {
            let read = sys::rd_kafka_consume_batch_queue(self.queue, timeout_ms(timeout), messages.0.as_mut_ptr().cast(), most);
            messages.0.set_len(usize::try_from(read).unwrap_or(0));
        }
        self.check()?;
        Ok(messages)
    }

    /// Serves callbacks of a producer and waits until everything is delivered; says so where that takes long.
    ///
    /// # Errors
    /// If a record was not taken, or the time is over.
    pub fn flush(&self, timeout: Duration) -> Result<()> {
        let started = Instant::now();
        loop {
            let left = timeout.saturating_sub(started.elapsed());
            // SAFETY: the handle is valid.
            let code = unsafe { sys::rd_kafka_flush(self.rk, timeout_ms(left.min(SILENT))) };
            self.check()?;
            match code {
                Code::RD_KAFKA_RESP_ERR_NO_ERROR => return Ok(()),
                Code::RD_KAFKA_RESP_ERR__TIMED_OUT if left > SILENT => {
                    // SAFETY: the handle is valid.
                    let waiting = unsafe { sys::rd_kafka_outq_len(self.rk) };
                    let (seconds, last) = (started.elapsed().as_secs(), self.last_error().unwrap_or_default());
                    tracing::warn!("{waiting} records have waited for Kafka at {} for {seconds} s; {last}", self.servers);
                }
                code => return Err(self.fail("writing to Kafka", code)),
            }
        }
    }

    /// Serves callbacks of a producer.
    ///
    /// # Errors
    /// If a record was not taken.
    pub fn serve(&self, timeout: Duration) -> Result<()> {
        self.poll(timeout);
        self.check()
    }
}

/// SAFETY of the caller: `count` elements are there, or the count is 0.
unsafe fn slice<'a, T>(data: *const T, count: c_int) -> &'a [T] {
    match usize::try_from(count) {
        // SAFETY: see above.
        Ok(n) if n > 0 && !data.is_null() => unsafe { std::slice::from_raw_parts(data, n) },
        _ => &[],
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: everything is owned and released once, the queue before its handle.
        unsafe {
            if !self.queue.is_null() {
                sys::rd_kafka_queue_destroy(self.queue);
                sys::rd_kafka_consumer_close(self.rk);
            } else {
                // What was never flushed need not be sent: the task has failed or is done.
                sys::rd_kafka_purge(self.rk, 1 | 2);
            }
            sys::rd_kafka_destroy(self.rk);
        }
    }
}

/// Messages in librdkafka's own buffers.
pub(crate) struct Messages(Vec<*mut sys::rd_kafka_message_t>);

impl Messages {
    pub fn iter(&self) -> impl Iterator<Item = Message<'_>> {
        // SAFETY: the pointers are valid until Drop.
        self.0.iter().map(|m| Message(unsafe { &**m }))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn append(&mut self, mut other: Messages) {
        self.0.append(&mut other.0);
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        for message in &self.0 {
            // SAFETY: owned, released once.
            unsafe { sys::rd_kafka_message_destroy(*message) }
        }
    }
}

/// A message, or what the consumer has to say of a partition.
#[derive(Clone, Copy)]
pub(crate) struct Message<'a>(&'a sys::rd_kafka_message_t);

impl<'a> Message<'a> {
    pub fn error(self) -> Option<Code> {
        (self.0.err != Code::RD_KAFKA_RESP_ERR_NO_ERROR).then_some(self.0.err)
    }

    /// What the consumer says of its error.
    pub fn error_text(self) -> String {
        // SAFETY: the message is valid; the text lives as long as it.
        let text = unsafe { sys::rd_kafka_message_errstr(self.0) };
        if text.is_null() { describe(self.0.err) } else { unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned() }
    }

    /// Equal for messages of one topic while it is read.
    #[inline]
    pub fn topic_id(self) -> usize {
        self.0.rkt as usize
    }

    pub fn topic(self) -> String {
        if self.0.rkt.is_null() {
            return String::new();
        }
        // SAFETY: the topic lives as long as the message; its name is NUL-terminated.
        unsafe { CStr::from_ptr(sys::rd_kafka_topic_name(self.0.rkt)) }.to_string_lossy().into_owned()
    }

    #[inline]
    pub fn partition(self) -> i32 {
        self.0.partition
    }

    #[inline]
    pub fn offset(self) -> i64 {
        self.0.offset
    }

    #[inline]
    pub fn value(self) -> Option<&'a [u8]> {
        // SAFETY: `len` bytes at `payload` live as long as the message. Null is a tombstone.
        (!self.0.payload.is_null()).then(|| unsafe { std::slice::from_raw_parts(self.0.payload.cast(), self.0.len) })
    }

    #[inline]
    pub fn key(self) -> Option<&'a [u8]> {
        // SAFETY: as for the value.
        (!self.0.key.is_null()).then(|| unsafe { std::slice::from_raw_parts(self.0.key.cast(), self.0.key_len) })
    }

    /// Milliseconds, and what they are: `NoTimestampType`, `CreateTime`, `LogAppendTime`.
    #[inline]
    pub fn timestamp(self) -> (i64, &'static str) {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is valid.
        let at = unsafe { sys::rd_kafka_message_timestamp(self.0, &raw mut kind) };
        (
            at,
            match kind {
                sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_CREATE_TIME => "CreateTime",
                sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => "LogAppendTime",
                _ => "NoTimestampType",
            },
        )
    }

    pub fn leader_epoch(self) -> Option<i32> {
        // SAFETY: the message is valid.
        Some(unsafe { sys::rd_kafka_message_leader_epoch(self.0) }).filter(|e| *e >= 0)
    }

    /// Calls `each` with every header in order.
    pub fn headers(self, mut each: impl FnMut(&'a [u8], Option<&'a [u8]>)) {
        let mut headers = std::ptr::null_mut();
        // SAFETY: the headers belong to the message and live as long; names are NUL-terminated, values have their size.
        unsafe {
            if sys::rd_kafka_message_headers(self.0, &raw mut headers) != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                return;
            }
            let (mut name, mut value, mut size) = (std::ptr::null(), std::ptr::null(), 0usize);
            let mut index = 0;
            while sys::rd_kafka_header_get_all(headers, index, &raw mut name, &raw mut value, &raw mut size)
                == Code::RD_KAFKA_RESP_ERR_NO_ERROR
            {
                let value = (!value.is_null()).then(|| std::slice::from_raw_parts(value.cast(), size));
                each(CStr::from_ptr(name).to_bytes(), value);
                index += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    /// librdkafka would wait for ever.
    #[test]
    fn no_broker_to_connect_to_is_an_error() {
        let error = Client::producer(Config::new(), " ").err().unwrap();
        assert!(error.message().contains("is empty"), "{error}");
    }
}
