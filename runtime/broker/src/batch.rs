//! Record batches as bytes (magic 2, KIP-98): the header is read, records are left alone.
//!
//! The checksum covers what follows it, so base offset and leader epoch, which stand before it, may be rewritten.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use indexmap::IndexMap;
use kafka_protocol::error::ResponseError;
use kafka_protocol::records::{
    Compression, NO_SEQUENCE, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};

use crate::cluster::LEADER_EPOCH;

const HEADER: usize = 61;
/// Base offset and length, which the length does not count.
const PREFIX: usize = 12;

/// What the broker needs of a batch's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub last_offset_delta: i32,
    pub max_timestamp: i64,
    /// -1: not idempotent.
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub records: i32,
    pub transactional: bool,
    pub control: bool,
}

impl Header {
    /// The sequence number of the last record; it goes on at 0 after `i32::MAX`.
    pub fn last_sequence(&self) -> i32 {
        let last = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        (last % (i64::from(i32::MAX) + 1)) as i32
    }
}

/// Takes what a producer sent for one partition apart.
///
/// # Errors
/// [`ResponseError::UnsupportedForMessageFormat`] for the formats before Kafka 0.11, [`ResponseError::CorruptMessage`] or
/// [`ResponseError::InvalidRecord`] for what is no record batch.
pub fn split(mut bytes: Bytes) -> Result<Vec<(Header, Bytes)>, ResponseError> {
    let mut batches = Vec::with_capacity(1);
    while bytes.has_remaining() {
        if bytes.len() < HEADER {
            return Err(ResponseError::CorruptMessage);
        }
        let mut head = bytes.slice(8..HEADER);
        let size = head.get_i32();
        let _leader_epoch = head.get_i32();
        if head.get_i8() != 2 {
            return Err(ResponseError::UnsupportedForMessageFormat);
        }
        let _checksum = head.get_u32();
        let attributes = head.get_i16();
        let last_offset_delta = head.get_i32();
        let _base_timestamp = head.get_i64();
        let header = Header {
            last_offset_delta,
            max_timestamp: head.get_i64(),
            producer_id: head.get_i64(),
            producer_epoch: head.get_i16(),
            base_sequence: head.get_i32(),
            records: head.get_i32(),
            transactional: attributes & 0x10 != 0,
            control: attributes & 0x20 != 0,
        };
        let total = usize::try_from(size).map_or(0, |s| s + PREFIX);
        if total < HEADER || total > bytes.len() {
            return Err(ResponseError::CorruptMessage);
        }
        // Clients write neither control batches nor batches with gaps.
        if header.control || last_offset_delta < 0 || header.records != last_offset_delta + 1 {
            return Err(ResponseError::InvalidRecord);
        }
        batches.push((header, bytes.split_to(total)));
    }
    if batches.is_empty() { Err(ResponseError::InvalidRecord) } else { Ok(batches) }
}

/// A copy of a batch that begins at `offset`. It is a copy so that it does not keep the whole request alive.
pub fn at_offset(batch: &[u8], offset: i64) -> Bytes {
    let mut copy = BytesMut::with_capacity(batch.len());
    copy.put_i64(offset);
    copy.put_slice(&batch[8..PREFIX]);
    copy.put_i32(LEADER_EPOCH);
    copy.put_slice(&batch[PREFIX + 4..]);
    copy.freeze()
}

/// The control batch that ends a transaction (KIP-98).
pub fn end_marker(commit: bool, producer_id: i64, producer_epoch: i16, offset: i64, now: i64) -> Result<Bytes, ResponseError> {
    let mut key = BytesMut::new();
    key.put_i16(0);
    key.put_i16(i16::from(commit));
    let mut value = BytesMut::new();
    value.put_i16(0);
    value.put_i32(0);
    let record = Record {
        transactional: true,
        control: true,
        delete_horizon: false,
        partition_leader_epoch: LEADER_EPOCH,
        producer_id,
        producer_epoch,
        timestamp_type: TimestampType::Creation,
        offset,
        sequence: NO_SEQUENCE,
        timestamp: now,
        key: Some(key.freeze()),
        value: Some(value.freeze()),
        headers: IndexMap::new(),
    };
    let mut out = BytesMut::new();
    RecordBatchEncoder::encode(&mut out, [&record], &RecordEncodeOptions { version: 2, compression: Compression::None })
        .map_err(|_| ResponseError::UnknownServerError)?;
    Ok(out.freeze())
}

/// Offset and timestamp of a batch's first record that is not before `timestamp`. Decodes the batch.
pub fn first_not_before(batch: &Bytes, timestamp: i64) -> Result<Option<(i64, i64)>, ResponseError> {
    let decoded = RecordBatchDecoder::decode(&mut batch.clone()).map_err(|e| {
        tracing::warn!("a record batch cannot be decoded: {e}");
        ResponseError::CorruptMessage
    })?;
    Ok(decoded.records.iter().find(|r| r.timestamp >= timestamp).map(|r| (r.offset, r.timestamp)))
}

#[cfg(test)]
pub mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A batch with records at these timestamps, as a producer makes it.
    pub fn sent(timestamps: &[i64], producer: Option<(i64, i16, i32)>, transactional: bool) -> Bytes {
        let (producer_id, producer_epoch, sequence) = producer.unwrap_or((-1, -1, -1));
        let records: Vec<Record> = (0..timestamps.len())
            .map(|n| Record {
                transactional,
                control: false,
                delete_horizon: false,
                partition_leader_epoch: -1,
                producer_id,
                producer_epoch,
                timestamp_type: TimestampType::Creation,
                offset: n as i64,
                sequence: if sequence < 0 { n as i32 - 1 } else { sequence + n as i32 },
                timestamp: timestamps[n],
                key: None,
                value: Some(Bytes::from(format!("value {n}"))),
                headers: IndexMap::new(),
            })
            .collect();
        let mut out = BytesMut::new();
        RecordBatchEncoder::encode(&mut out, &records, &RecordEncodeOptions { version: 2, compression: Compression::Gzip }).unwrap();
        out.freeze()
    }

    #[test]
    fn a_header_is_read_and_offsets_are_rewritten() {
        let bytes = sent(&[10, 30, 20], Some((7, 2, 5)), true);
        let batches = split(bytes).unwrap();
        let [(header, body)] = batches.as_slice() else { panic!("{batches:?}") };
        assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence, header.last_sequence()), (7, 2, 5, 7));
        assert_eq!((header.max_timestamp, header.records, header.transactional, header.control), (30, 3, true, false));
        let moved = at_offset(body, 1000);
        let records = RecordBatchDecoder::decode(&mut moved.clone()).unwrap().records;
        assert_eq!(records.iter().map(|r| r.offset).collect::<Vec<_>>(), [1000, 1001, 1002]);
        assert_eq!(first_not_before(&moved, 11).unwrap(), Some((1001, 30)));
        assert_eq!(first_not_before(&moved, 31).unwrap(), None);
    }

    #[test]
    fn what_is_no_batch_is_refused() {
        let good = sent(&[1, 2], None, false);
        let mut old = good.to_vec();
        old[16] = 1;
        let mut short = good.to_vec();
        short.truncate(good.len() - 1);
        let mut gap = good.to_vec();
        gap[26] = 9;
        for (name, bytes, error) in [
            ("nothing", vec![], ResponseError::InvalidRecord),
            ("a few bytes", vec![0; 20], ResponseError::CorruptMessage),
            ("zeros", vec![0; 80], ResponseError::UnsupportedForMessageFormat),
            ("magic 1", old, ResponseError::UnsupportedForMessageFormat),
            ("cut off", short, ResponseError::CorruptMessage),
            ("a gap", gap, ResponseError::InvalidRecord),
            ("control", end_marker(true, 1, 0, 0, 0).unwrap().to_vec(), ResponseError::InvalidRecord),
        ] {
            assert_eq!(split(Bytes::from(bytes)).unwrap_err(), error, "{name}");
        }
    }

    #[test]
    fn sequences_wrap() {
        let header = split(sent(&[1, 2, 3], Some((1, 0, 5)), false)).unwrap()[0].0;
        let header = Header { base_sequence: i32::MAX - 1, ..header };
        assert_eq!(header.last_sequence(), 0);
    }
}
