//! FROM_CHANGELOG: rows with a column that says what they are, as changes (Flink: `FromChangelogFunction`).

use arrow::array::{Array, AsArray, UInt32Array};
use sluice_batch::{Batch, Error, Result, RowKind};

use crate::spec::FromChangelogSpec;
use crate::{Operator, Output};

pub struct FromChangelog {
    spec: FromChangelogSpec,
}

impl FromChangelog {
    pub fn new(spec: FromChangelogSpec) -> Self {
        Self { spec }
    }

    /// What a code means; `None` if the row is to be skipped.
    fn kind(&self, code: Option<&str>) -> Result<Option<RowKind>> {
        let known = code.and_then(|code| self.spec.mapping.iter().find(|(c, _)| c == code)).map(|(_, kind)| *kind);
        if known.is_some() || !self.spec.fail_on_unknown {
            return Ok(known);
        }
        let Some(code) = code else {
            return Err(Error::runtime("Received NULL op code. Every changelog row must carry an operation code."));
        };
        let codes: Vec<&str> = self.spec.mapping.iter().map(|(c, _)| c.as_str()).collect();
        let message = format!("Received invalid op code '{code}'. Defined op codes are: [{}].", codes.join(", "));
        Err(Error::runtime(message).hint("map it with op_mapping, or skip such rows with error_handling => 'SKIP'"))
    }
}

impl Operator for FromChangelog {
    fn name(&self) -> &'static str {
        "FromChangelog"
    }

    fn batch(&mut self, _input: usize, batch: Batch, out: &mut Output<'_>) -> Result<()> {
        let column = batch.column(self.spec.op_column);
        let codes = column.as_string_opt::<i32>().ok_or_else(|| Error::runtime("the op column of FROM_CHANGELOG is no string"))?;
        let (mut kinds, mut rows) = (Vec::with_capacity(batch.rows()), Vec::with_capacity(batch.rows()));
        for row in 0..batch.rows() {
            if let Some(kind) = self.kind(codes.is_valid(row).then(|| codes.value(row)))? {
                kinds.push(kind);
                rows.push(row as u32);
            }
        }
        let rest: Vec<usize> = (0..batch.columns().len()).filter(|c| *c != self.spec.op_column).collect();
        let mut batch = batch.project(&rest);
        if rows.len() != batch.rows() {
            batch = batch.take(&UInt32Array::from(rows))?;
        }
        out.emit(Batch::with_kinds(batch.columns().to_vec(), Some(kinds.into()), batch.rows()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assert_lines;
    use crate::spec::OperatorSpec;
    use crate::testing::{Harness, types};

    fn spec(fail_on_unknown: bool) -> FromChangelogSpec {
        let mapping = vec![("c".into(), RowKind::Insert), ("r".into(), RowKind::Insert), ("d".into(), RowKind::Delete)];
        FromChangelogSpec { op_column: 1, mapping, fail_on_unknown }
    }

    #[test]
    fn rows_become_changes() {
        let t = types("int string string");
        let mut h = Harness::new(OperatorSpec::FromChangelog(spec(false)));
        assert_lines!(h.send(0, &t, "1 c a; 2 r b; 3 x c; 1 d a; 4 NULL d"), "+I 1 a; +I 2 b; -D 1 a");
    }

    #[test]
    fn unknown_codes_fail() {
        let operator = FromChangelog::new(spec(true));
        assert!(operator.kind(Some("x")).is_err_and(|e| e.to_string().contains("invalid op code 'x'")));
        assert!(operator.kind(None).is_err_and(|e| e.to_string().contains("NULL op code")));
        assert!(operator.kind(Some("d")).is_ok_and(|k| k == Some(RowKind::Delete)));
    }
}
