//! `blackhole`: takes everything and keeps nothing.

use sluice_batch::{Batch, Result};
use sluice_format::ChangelogMode;

use crate::options::Options;
use crate::registry::SinkFactory;
use crate::{Sink, SinkInfo, TableSpec};

pub(crate) const FACTORY: SinkFactory = SinkFactory { info, open: |table, _, _| info(table).map(|_| Box::new(Blackhole) as Box<dyn Sink>) };

fn info(table: &TableSpec) -> Result<SinkInfo> {
    let options = Options::new(table)?;
    options.finish()?;
    crate::columns::check_writable(table, &[])?;
    Ok(SinkInfo { changelog: ChangelogMode::All, delete_by_key: false, guarantee: "none" })
}

struct Blackhole;

impl Sink for Blackhole {
    fn write(&mut self, _batch: &Batch) -> Result<()> {
        Ok(())
    }

    fn flush(&mut self, _end: bool) -> Result<()> {
        Ok(())
    }
}
