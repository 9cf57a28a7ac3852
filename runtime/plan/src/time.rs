//! Time attributes and where a relation's windows are.

use sluice_batch::{SqlType, TypeKind};
use sluice_sql::relation::{ColumnDef, JoinKind, Rel, RelKind, TimeAttribute, WindowSpec};

pub(crate) fn is_proctime(column: &ColumnDef) -> bool {
    column.time == Some(TimeAttribute::Proctime)
}

pub(crate) fn is_rowtime(column: &ColumnDef) -> bool {
    column.time == Some(TimeAttribute::Rowtime)
}

pub(crate) fn is_ltz(ty: &SqlType) -> bool {
    matches!(ty.kind, TypeKind::TimestampLtz(_))
}

/// Where the bounds of a relation's windows are among its columns (Flink: `FlinkRelMdWindowProperties`).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WindowColumns {
    pub start: Option<usize>,
    pub end: Option<usize>,
    pub time: Option<usize>,
    pub window: WindowSpec,
    pub ltz: bool,
    pub proctime: bool,
}

impl WindowColumns {
    fn moved(self, at: impl Fn(usize) -> Option<usize>) -> Self {
        Self { start: self.start.and_then(&at), end: self.end.and_then(&at), time: self.time.and_then(&at), ..self }
    }
}

/// The windows of a relation's rows, if every row has one.
pub(crate) fn window_columns(rel: &Rel) -> Option<WindowColumns> {
    let found = match &rel.kind {
        RelKind::WindowTvf { input, time, window, .. } => {
            let n = input.schema.len();
            let time = &input.schema[*time];
            Some(WindowColumns {
                start: Some(n),
                end: Some(n + 1),
                time: Some(n + 2),
                window: window.clone(),
                ltz: is_ltz(&time.ty),
                proctime: is_proctime(time),
            })
        }
        RelKind::Project { input, exprs } => {
            let below = window_columns(input)?;
            Some(below.moved(|c| exprs.iter().position(|e| e.as_column() == Some(c))))
        }
        RelKind::Filter { input, .. } | RelKind::Unnest { input, .. } | RelKind::Over { input, .. } => window_columns(input),
        RelKind::Shared { input, .. } => window_columns(input),
        RelKind::Aggregate { input, keys, window: Some(_), .. } => {
            let below = window_columns(input)?;
            Some(below.moved(|c| keys.iter().position(|k| *k == c)))
        }
        RelKind::Join { left, kind, .. } => match kind {
            JoinKind::Semi | JoinKind::Anti | JoinKind::Inner | JoinKind::Left => window_columns(left),
            JoinKind::Right | JoinKind::Full => None,
        },
        RelKind::Union { inputs } => {
            let mut all = inputs.iter().map(window_columns);
            let first = all.next()??;
            all.all(|w| w.as_ref() == Some(&first)).then_some(first)
        }
        _ => None,
    };
    found.filter(|w| w.start.is_some() || w.end.is_some())
}
