//! Where to start reading and where to stop: `scan.startup.*`, `scan.bounded.*`.

use std::collections::BTreeMap;
use std::time::Duration;

use sluice_batch::{Error, Result};

use super::client::{Client, OFFSET_BEGINNING, OFFSET_END, TopicOffset};
use crate::TableOption;
use crate::options::Options;

/// `scan.startup.mode`
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Start {
    Earliest,
    Latest,
    Group,
    /// Milliseconds.
    Timestamp(i64),
    /// By partition.
    Specific(BTreeMap<i32, i64>),
}

/// `scan.bounded.mode`
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stop {
    Never,
    Latest,
    Group,
    Timestamp(i64),
    Specific(BTreeMap<i32, i64>),
}

impl Start {
    pub fn read(options: &Options<'_>) -> Result<Self> {
        let modes = ["group-offsets", "earliest-offset", "latest-offset", "timestamp", "specific-offsets"];
        let mode = options.choice("scan.startup.mode", &modes)?;
        let timestamp = options.parse::<i64>("scan.startup.timestamp-millis", "milliseconds since 1970")?;
        let offsets = options.get("scan.startup.specific-offsets").map(specific).transpose()?;
        Ok(match mode {
            "earliest-offset" => Self::Earliest,
            "latest-offset" => Self::Latest,
            "timestamp" => Self::Timestamp(timestamp.ok_or_else(|| options.missing("scan.startup.timestamp-millis"))?),
            "specific-offsets" => Self::Specific(offsets.ok_or_else(|| options.missing("scan.startup.specific-offsets"))?),
            _ => Self::Group,
        })
    }

    /// What librdkafka does where an offset is gone (Flink: `OffsetsInitializer.getAutoOffsetResetStrategy`).
    pub fn reset(&self, configured: Option<&str>) -> &'static str {
        match (self, configured) {
            (Self::Earliest | Self::Specific(_), _) => "earliest",
            (Self::Latest | Self::Timestamp(_), _) => "latest",
            (Self::Group, Some("earliest" | "smallest" | "beginning")) => "earliest",
            (Self::Group, Some("latest" | "largest" | "end")) => "latest",
            (Self::Group, _) => "error",
        }
    }

    /// The offsets to start from. `configured`: `auto.offset.reset`. Partitions that appeared later (`new`) are read from their start.
    ///
    /// # Errors
    /// If the brokers do not answer, or the group has no offset and nothing says what to do then.
    pub fn resolve(
        &self,
        client: &Client,
        partitions: &[TopicOffset],
        configured: Option<&str>,
        new: bool,
        wait: Duration,
    ) -> Result<Vec<TopicOffset>> {
        match self {
            Self::Latest if !new => at(client, partitions, |_| OFFSET_END, wait),
            Self::Timestamp(millis) if !new => times(client, partitions, *millis, wait),
            Self::Earliest | Self::Latest | Self::Timestamp(_) => at(client, partitions, |_| OFFSET_BEGINNING, wait),
            Self::Specific(offsets) => {
                let given = |p: &TopicOffset| offsets.get(&p.partition).map(|offset| TopicOffset { offset: *offset, ..p.clone() });
                let others: Vec<_> = partitions.iter().filter(|p| given(p).is_none()).cloned().collect();
                let found = if others.is_empty() { vec![] } else { self.committed(client, &others, None, new, wait)? };
                Ok(partitions.iter().filter_map(|p| given(p).or_else(|| find(&found, p))).collect())
            }
            Self::Group => self.committed(client, partitions, configured, new, wait),
        }
    }

    /// The group's offsets, which also stand in for those that `specific-offsets` leaves out (Flink: `SpecifiedOffsetsInitializer`).
    fn committed(
        &self,
        client: &Client,
        partitions: &[TopicOffset],
        configured: Option<&str>,
        new: bool,
        wait: Duration,
    ) -> Result<Vec<TopicOffset>> {
        let mut found = client.committed(partitions, wait)?;
        let fallback = match (new, self.reset(configured)) {
            (true, _) | (_, "earliest") => OFFSET_BEGINNING,
            (_, "latest") => OFFSET_END,
            _ => {
                if let Some(p) = found.iter().find(|p| p.offset < 0) {
                    let message = format!("the consumer group has no committed offset for {}-{}", p.topic, p.partition);
                    return Err(Error::runtime(message).hint(
                        "set 'scan.startup.mode' = 'earliest-offset' (group-offsets is the default), or 'properties.auto.offset.reset'",
                    ));
                }
                return Ok(found);
            }
        };
        let missing: Vec<_> = found.iter().filter(|p| p.offset < 0).cloned().collect();
        for p in at(client, &missing, |_| fallback, wait)? {
            if let Some(slot) = found.iter_mut().find(|f| f.topic == p.topic && f.partition == p.partition) {
                slot.offset = p.offset;
            }
        }
        Ok(found)
    }
}

impl Stop {
    pub fn read(options: &Options<'_>) -> Result<Self> {
        let modes = ["unbounded", "latest-offset", "group-offsets", "timestamp", "specific-offsets"];
        let mode = options.choice("scan.bounded.mode", &modes)?;
        let timestamp = options.parse::<i64>("scan.bounded.timestamp-millis", "milliseconds since 1970")?;
        let offsets = options.get("scan.bounded.specific-offsets").map(specific).transpose()?;
        Ok(match mode {
            "latest-offset" => Self::Latest,
            "group-offsets" => Self::Group,
            "timestamp" => Self::Timestamp(timestamp.ok_or_else(|| options.missing("scan.bounded.timestamp-millis"))?),
            "specific-offsets" => Self::Specific(offsets.ok_or_else(|| options.missing("scan.bounded.specific-offsets"))?),
            _ => Self::Never,
        })
    }

    /// The offsets before which to stop; `None`: never.
    ///
    /// # Errors
    /// If the brokers do not answer.
    pub fn resolve(&self, client: &Client, partitions: &[TopicOffset], wait: Duration) -> Result<Vec<Option<i64>>> {
        let found = match self {
            Self::Never => return Ok(vec![None; partitions.len()]),
            Self::Latest => at(client, partitions, |_| OFFSET_END, wait)?,
            Self::Timestamp(millis) => times(client, partitions, *millis, wait)?,
            Self::Specific(offsets) => {
                let stop = |p: &TopicOffset| TopicOffset { offset: offsets.get(&p.partition).copied().unwrap_or(0), ..p.clone() };
                partitions.iter().map(stop).collect()
            }
            Self::Group => {
                let committed = client.committed(partitions, wait)?;
                let latest = at(client, partitions, |_| OFFSET_END, wait)?;
                committed.into_iter().map(|p| if p.offset < 0 { find(&latest, &p).unwrap_or(p) } else { p }).collect()
            }
        };
        Ok(partitions.iter().map(|p| find(&found, p).map(|f| f.offset)).collect())
    }
}

fn find(list: &[TopicOffset], wanted: &TopicOffset) -> Option<TopicOffset> {
    list.iter().find(|f| f.topic == wanted.topic && f.partition == wanted.partition).cloned()
}

/// Asks for logical offsets or timestamps.
fn at(client: &Client, partitions: &[TopicOffset], offset: impl Fn(&TopicOffset) -> i64, wait: Duration) -> Result<Vec<TopicOffset>> {
    let wanted: Vec<_> = partitions.iter().map(|p| TopicOffset { offset: offset(p), ..p.clone() }).collect();
    let found = client.offsets_for_times(&wanted, wait)?;
    // In the order asked for: answers come by leader.
    Ok(wanted.iter().map(|w| find(&found, w).unwrap_or_else(|| w.clone())).collect())
}

/// The first offset with at least that timestamp, else the end.
fn times(client: &Client, partitions: &[TopicOffset], millis: i64, wait: Duration) -> Result<Vec<TopicOffset>> {
    let mut found = at(client, partitions, |_| millis.max(0), wait)?;
    let beyond: Vec<_> = found.iter().filter(|p| p.offset < 0).cloned().collect();
    for end in at(client, &beyond, |_| OFFSET_END, wait)? {
        if let Some(slot) = found.iter_mut().find(|f| f.topic == end.topic && f.partition == end.partition) {
            slot.offset = end.offset;
        }
    }
    Ok(found)
}

/// `partition:0,offset:42;partition:1,offset:300`
fn specific(option: &TableOption) -> Result<BTreeMap<i32, i64>> {
    let wrong = || {
        let message = format!("option '{}' is '{}'; expected: partition:0,offset:42;partition:1,offset:300", option.key, option.value);
        Error::plan(message).at(option.value_span)
    };
    let pair = |text: &str| {
        let (partition, offset) = text.split_once(',')?;
        let partition = partition.trim().strip_prefix("partition:")?.trim().parse().ok()?;
        let offset: i64 = offset.trim().strip_prefix("offset:")?.trim().parse().ok()?;
        (offset >= 0).then_some((partition, offset))
    };
    let parts = option.value.split(';').map(str::trim).filter(|p| !p.is_empty());
    let offsets = parts.map(|p| pair(p).ok_or_else(wrong)).collect::<Result<BTreeMap<_, _>>>()?;
    if offsets.is_empty() { Err(wrong()) } else { Ok(offsets) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::test_util::table;

    fn start(options: &[(&str, &str)]) -> Result<Start> {
        let table = table(options, &[]);
        Start::read(&Options::new(&table)?)
    }

    #[test]
    fn startup_modes() {
        assert_eq!(start(&[]).unwrap(), Start::Group);
        assert_eq!(start(&[("scan.startup.mode", "earliest-offset")]).unwrap(), Start::Earliest);
        assert!(start(&[("scan.startup.mode", "timestamp")]).unwrap_err().message().contains("timestamp-millis"));
        let timestamp = [("scan.startup.mode", "timestamp"), ("scan.startup.timestamp-millis", "12")];
        assert_eq!(start(&timestamp).unwrap(), Start::Timestamp(12));
        let offsets = |text| start(&[("scan.startup.mode", "specific-offsets"), ("scan.startup.specific-offsets", text)]);
        assert_eq!(offsets("partition:0,offset:42;partition:1,offset:3").unwrap(), Start::Specific(BTreeMap::from([(0, 42), (1, 3)])));
        for wrong in ["", "0:42", "partition:0,offset:-2", "partition:x,offset:1"] {
            assert!(offsets(wrong).is_err(), "{wrong}");
        }
        assert_eq!(start(&[("scan.startup.mode", "earliest")]).unwrap_err().hint_text(), Some("did you mean 'earliest-offset'?"));
    }
}
