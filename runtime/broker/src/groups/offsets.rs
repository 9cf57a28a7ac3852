//! Committed offsets of a group.

use std::collections::BTreeMap;

use kafka_protocol::protocol::StrBytes;

/// Topic and partition.
pub type Place = (String, i32);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub offset: i64,
    /// -1: not said.
    pub leader_epoch: i32,
    pub metadata: StrBytes,
}

pub type Offsets = BTreeMap<Place, Committed>;
