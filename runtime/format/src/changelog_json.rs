//! `changelog-json`: one change a record, `{"op":"+U","data":{"a":1}}` (the contract of Sluice's conformance suite). `op` is `+I`, `-U`, `+U` or
//! `-D`, and `+I` where it is missing; `data` holds the columns by name, a missing one is NULL. Values are those of `json`, but decimals keep all
//! their digits, and maps have keys of any type.

use arrow::array::ArrayRef;
use sluice_batch::{Batch, Error, Field, Result, RowKind};

use crate::column::Column;
use crate::json::cursor::{Cursor, Parsed};
use crate::json::encode::{NullKeys, RowNames, WriteOptions, write_row};
use crate::json::read::{ReadOptions, Reader, RowPlan};
use crate::json::{error_of, excerpt, projected};
use crate::registry::Format;
use crate::text::TimestampFormat;
use crate::view::View;
use crate::{ChangelogMode, Decoder, Encoder, FormatInfo, FormatOptions, Records, Schema};

pub(crate) const FORMAT: Format = Format {
    name: "changelog-json",
    read: Some(|options| info(options, ChangelogMode::InsertOnly)),
    write: Some(|options, keyed| info(options, if keyed { ChangelogMode::Upsert } else { ChangelogMode::All })),
    decoder: |options, schema, _| {
        let info = info(&options, ChangelogMode::InsertOnly)?;
        Ok(Box::new(ChangelogDecoder::new(&schema, info.changelog)?))
    },
    encoder: |_, schema, _| {
        let names = RowNames::new(&schema.fields, &WRITE)?;
        Ok(Box::new(ChangelogEncoder { names, fields: schema.fields }))
    },
    metadata: Vec::new,
};

const WRITE: WriteOptions = WriteOptions {
    timestamps: TimestampFormat::Sql,
    null_keys: NullKeys::Literal(String::new()),
    plain_decimals: true,
    ignore_null_fields: false,
    any_map_key: true,
};

const READ: ReadOptions =
    ReadOptions { timestamps: TimestampFormat::Sql, fail_on_missing_field: false, ignore_parse_errors: false, any_map_key: true };

fn info(options: &FormatOptions, default: ChangelogMode) -> Result<FormatInfo> {
    let changelog = match options.get("changelog-mode") {
        None => default,
        Some(_) => match options.choice("changelog-mode", &["insert-only", "upsert", "all"])? {
            "insert-only" => ChangelogMode::InsertOnly,
            "upsert" => ChangelogMode::Upsert,
            _ => ChangelogMode::All,
        },
    };
    Ok(FormatInfo { changelog, delete_by_key: options.flag("delete-by-key")? })
}

struct ChangelogDecoder {
    plan: RowPlan,
    columns: Vec<Column>,
    kinds: Vec<RowKind>,
    scratch: Vec<u8>,
    mode: ChangelogMode,
}

impl ChangelogDecoder {
    fn new(schema: &Schema, mode: ChangelogMode) -> Result<Self> {
        let (fields, columns) = projected(schema)?;
        Ok(Self { plan: RowPlan::new(fields.iter(), &READ)?, columns, kinds: vec![], scratch: vec![], mode })
    }

    /// Reads one change; appends at most one row to the columns.
    fn record(&mut self, record: &[u8]) -> Parsed<RowKind> {
        let mut cursor = Cursor::new(record);
        if let Err(e) = std::str::from_utf8(record) {
            cursor.pos = e.valid_up_to();
            return cursor.syntax("bytes that are not UTF-8");
        }
        let mut reader = Reader { cursor, scratch: std::mem::take(&mut self.scratch), options: &READ };
        let kind = change(&mut reader, &mut self.plan, &mut self.columns);
        self.scratch = reader.scratch;
        kind
    }

    fn allows(&self, kind: RowKind) -> bool {
        match self.mode {
            ChangelogMode::InsertOnly => kind == RowKind::Insert,
            ChangelogMode::Upsert => kind != RowKind::UpdateBefore,
            ChangelogMode::All => true,
        }
    }
}

fn change(reader: &mut Reader<'_, '_>, plan: &mut RowPlan, columns: &mut [Column]) -> Parsed<RowKind> {
    let (mut kind, mut has_data) = (RowKind::Insert, false);
    reader.cursor.expect(b'{', "expected an object")?;
    if !reader.cursor.closed(b'}') {
        loop {
            if reader.cursor.peek() != b'"' {
                return reader.cursor.syntax("expected a field name");
            }
            let at = reader.cursor.pos;
            let is_data = match reader.cursor.string(&mut reader.scratch)? {
                b"op" => false,
                b"data" if !has_data => true,
                _ => return reader.cursor.mismatch(at, "a change has only the fields 'op' and 'data'"),
            };
            reader.cursor.expect(b':', "expected ':'")?;
            if is_data {
                reader.cursor.expect(b'{', "expected an object")?;
                reader.object(plan, columns)?;
                has_data = true;
            } else {
                kind = op(reader)?;
            }
            if !reader.cursor.more(b'}')? {
                break;
            }
        }
    }
    reader.cursor.end()?;
    if !has_data {
        return reader.cursor.mismatch(0, "a change needs the field 'data'");
    }
    Ok(kind)
}

fn op(reader: &mut Reader<'_, '_>) -> Parsed<RowKind> {
    let first = reader.cursor.peek();
    let at = reader.cursor.pos;
    let kind = match first {
        b'"' => std::str::from_utf8(reader.cursor.string(&mut reader.scratch)?).ok().and_then(RowKind::parse),
        _ => None,
    };
    kind.map_or_else(|| reader.cursor.mismatch(at, "'op' is '+I', '-U', '+U' or '-D'"), Ok)
}

impl Decoder for ChangelogDecoder {
    fn decode(&mut self, record: Option<&[u8]>) -> Result<usize> {
        let Some(record) = record.filter(|r| !r.is_empty()) else { return Ok(0) };
        let result = match self.record(record) {
            Ok(kind) if self.allows(kind) => {
                self.kinds.push(kind);
                return Ok(1);
            }
            Ok(kind) => {
                let message = format!("a change of kind {} in a table that has none: {}", kind.symbol(), excerpt(record, 0));
                Err(Error::runtime(message).hint("set the option 'changelog-json.changelog-mode' to 'upsert' or 'all'"))
            }
            Err(fault) => Err(error_of(record, &fault)),
        };
        self.columns.iter_mut().for_each(|c| c.truncate(self.kinds.len()));
        result
    }

    fn append_null_row(&mut self) -> Result<()> {
        self.columns.iter_mut().for_each(Column::push_null);
        self.kinds.push(RowKind::Insert);
        Ok(())
    }

    fn finish(&mut self) -> Result<(Vec<ArrayRef>, Option<Vec<RowKind>>)> {
        let columns = self.columns.iter_mut().map(Column::finish).collect::<Result<_>>()?;
        Ok((columns, Some(std::mem::take(&mut self.kinds))))
    }
}

struct ChangelogEncoder {
    fields: Vec<Field>,
    names: RowNames,
}

impl Encoder for ChangelogEncoder {
    fn encode(&mut self, batch: &Batch, out: &mut Records) -> Result<()> {
        let options = WriteOptions { null_keys: NullKeys::Literal("null".to_owned()), ..WRITE };
        let views = View::of(batch, &self.fields)?;
        for row in 0..batch.rows() {
            out.bytes.extend_from_slice(b"{\"op\":\"");
            out.bytes.extend_from_slice(batch.kind(row).symbol().as_bytes());
            out.bytes.extend_from_slice(b"\",\"data\":");
            write_row(&mut out.bytes, &self.names, &views, row, &options)?;
            out.bytes.push(b'}');
            out.end();
        }
        Ok(())
    }
}
