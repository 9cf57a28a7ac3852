//! What a partition remembers of idempotent producers (Kafka: `ProducerStateManager`, `ProducerAppendInfo`).

use std::collections::{HashMap, VecDeque};

use kafka_protocol::error::ResponseError;

use crate::batch::Header;

/// Batches in flight that a producer may repeat (`max.in.flight.requests.per.connection` is at most 5).
const REMEMBERED: usize = 5;

#[derive(Debug)]
struct Producer {
    epoch: i16,
    /// (first sequence, last sequence, base offset), oldest first.
    batches: VecDeque<(i32, i32, i64)>,
}

#[derive(Debug, Default)]
pub struct Producers(HashMap<i64, Producer>);

/// What is to be done with a batch.
#[derive(Debug, PartialEq, Eq)]
pub enum Check {
    Append,
    /// It is there already, at this offset.
    Duplicate(i64),
}

impl Producers {
    /// Checks epoch and sequence.
    ///
    /// # Errors
    /// [`ResponseError::InvalidProducerEpoch`] for a fenced producer, [`ResponseError::OutOfOrderSequenceNumber`] for a gap.
    pub fn check(&self, header: &Header) -> Result<Check, ResponseError> {
        let Some(known) = self.0.get(&header.producer_id) else {
            // Nothing known may mean that retention dropped it all: any sequence goes.
            return Ok(Check::Append);
        };
        if header.producer_epoch < known.epoch {
            return Err(ResponseError::InvalidProducerEpoch);
        }
        let expected = match known.batches.back() {
            Some((_, last, _)) if header.producer_epoch == known.epoch => last.checked_add(1).unwrap_or(0),
            // After a new epoch, or after an end marker that raised it.
            _ => 0,
        };
        if header.producer_epoch == known.epoch {
            let same = known.batches.iter().find(|(first, last, _)| *first == header.base_sequence && *last == header.last_sequence());
            if let Some((_, _, offset)) = same {
                return Ok(Check::Duplicate(*offset));
            }
        }
        if header.base_sequence == expected { Ok(Check::Append) } else { Err(ResponseError::OutOfOrderSequenceNumber) }
    }

    pub fn appended(&mut self, header: &Header, offset: i64) {
        let epoch = header.producer_epoch;
        let producer = self.0.entry(header.producer_id).or_insert_with(|| Producer { epoch, batches: VecDeque::with_capacity(REMEMBERED) });
        if producer.epoch != epoch {
            producer.epoch = epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == REMEMBERED {
            producer.batches.pop_front();
        }
        producer.batches.push_back((header.base_sequence, header.last_sequence(), offset));
    }

    /// A transaction of the producer ended with this epoch; older ones are fenced from now on.
    pub fn ended(&mut self, producer_id: i64, epoch: i16) {
        let producer = self.0.entry(producer_id).or_insert_with(|| Producer { epoch, batches: VecDeque::new() });
        if producer.epoch < epoch {
            producer.epoch = epoch;
            producer.batches.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(epoch: i16, base_sequence: i32, records: i32) -> Header {
        Header {
            last_offset_delta: records - 1,
            max_timestamp: 0,
            producer_id: 1,
            producer_epoch: epoch,
            base_sequence,
            records,
            transactional: false,
            control: false,
        }
    }

    #[test]
    fn epochs_and_sequences() {
        let mut producers = Producers::default();
        for (offset, first) in [(100, 0), (102, 2), (104, 4)] {
            assert_eq!(producers.check(&header(3, first, 2)), Ok(Check::Append));
            producers.appended(&header(3, first, 2), offset);
        }
        for (name, header, expected) in [
            ("next", header(3, 6, 1), Ok(Check::Append)),
            ("repeated", header(3, 2, 2), Ok(Check::Duplicate(102))),
            ("gap", header(3, 7, 1), Err(ResponseError::OutOfOrderSequenceNumber)),
            ("overlap", header(3, 5, 2), Err(ResponseError::OutOfOrderSequenceNumber)),
            ("zombie", header(2, 6, 1), Err(ResponseError::InvalidProducerEpoch)),
            ("new epoch", header(4, 0, 1), Ok(Check::Append)),
            ("new epoch, not from 0", header(4, 6, 1), Err(ResponseError::OutOfOrderSequenceNumber)),
        ] {
            assert_eq!(producers.check(&header), expected, "{name}");
        }
        producers.ended(1, 5);
        assert_eq!(producers.check(&header(4, 0, 1)), Err(ResponseError::InvalidProducerEpoch));
        assert_eq!(producers.check(&header(5, 0, 1)), Ok(Check::Append));
    }

    #[test]
    fn sequences_go_on_at_zero() {
        let mut producers = Producers::default();
        producers.appended(&header(0, i32::MAX, 1), 0);
        assert_eq!(producers.check(&header(0, 0, 1)), Ok(Check::Append));
    }
}
