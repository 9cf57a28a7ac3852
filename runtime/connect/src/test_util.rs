//! What the tests of this crate share.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use sluice_batch::{Field, Span, SqlType, TypeKind};

use crate::{ScanColumn, ScanRequest, TableOption, TableSpec};

/// A table whose options stand on lines 2, 3, …
pub(crate) fn table(options: &[(&str, &str)], fields: &[(&str, SqlType)]) -> TableSpec {
    TableSpec {
        name: "t".into(),
        physical: fields.iter().map(|(n, t)| Field::new(*n, t.clone())).collect(),
        metadata: vec![],
        primary_key: None,
        options: options
            .iter()
            .zip(2..)
            .map(|((k, v), line)| TableOption {
                key: (*k).into(),
                value: (*v).into(),
                key_span: Span { line, column: 1 },
                value_span: Span { line, column: 9 },
            })
            .collect(),
        span: Span { line: 1, column: 1 },
    }
}

/// All physical columns, no event time.
pub(crate) fn scan_all(table: &TableSpec) -> ScanRequest {
    ScanRequest {
        columns: (0..table.physical.len()).map(ScanColumn::Physical).collect(),
        watermark: None,
        force_bounded: false,
        time_zone: chrono_tz::Tz::UTC,
        share: crate::Share::ALL,
        group: None,
    }
}

pub(crate) fn string() -> SqlType {
    TypeKind::STRING.nullable()
}

pub(crate) fn int() -> SqlType {
    TypeKind::Int.nullable()
}
