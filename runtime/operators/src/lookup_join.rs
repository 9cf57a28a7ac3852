//! Joins each row with the rows that a table outside has for its key when the row comes (Flink: `LookupJoinRunner`, asynchronous and in
//! order): the keys of a batch are asked for together, several batches may be on their way, and rows leave in the order in which they came.

use std::collections::VecDeque;
use std::time::Duration;

use arrow::array::{ArrayRef, BooleanArray, UInt32Array, new_null_array};
use hashbrown::HashMap;
use sluice_batch::batch::Mask;
use sluice_batch::{Batch, EvalContext, Millis, Result, WATERMARK_MAX, WATERMARK_NONE};
use sluice_connect::{Answer, Found, Lookup};

use crate::lookup_cache::{CachedRows, LookupCache};
use crate::rows::{RowCodec, all_valid, take};
use crate::spec::LookupJoinSpec;
use crate::{Operator, Output};

/// Batches that wait for answers; then rows wait.
const IN_FLIGHT: usize = 8;
/// How long the end of a round waits for the next answer.
const MOMENT: Duration = Duration::from_millis(5);
const CLEANUP: Millis = 1000;

pub struct LookupJoin {
    spec: LookupJoinSpec,
    lookup: Box<dyn Lookup>,
    keys: RowCodec,
    rows: RowCodec,
    cache: Option<LookupCache>,
    waiting: VecDeque<Waiting>,
    /// The last watermark that has gone downstream while rows were waiting.
    released: Millis,
    cleaned: Millis,
}

enum Waiting {
    Rows(Rows),
    Watermark(Millis),
}

/// Rows that wait for an answer.
struct Rows {
    batch: Batch,
    /// By row: the number of its key in `known`; `None`: it has a NULL in it.
    keys: Vec<Option<u32>>,
    /// By key: what the cache has, or the number with which it was asked for.
    known: Vec<Known>,
    /// Keys that were asked for, encoded; empty without a cache.
    asked: Vec<Box<[u8]>>,
    answer: Option<Answer>,
}

enum Known {
    Cached(CachedRows),
    Asked(u32),
}

impl LookupJoin {
    /// # Errors
    /// If a type cannot be a key.
    pub fn new(spec: LookupJoinSpec, lookup: Box<dyn Lookup>) -> Result<Self> {
        Ok(Self {
            keys: RowCodec::project(&spec.left, &spec.left_keys)?,
            rows: RowCodec::new(&spec.fetched)?,
            cache: spec.cache.clone().map(LookupCache::new),
            lookup,
            waiting: VecDeque::new(),
            released: WATERMARK_NONE,
            cleaned: 0,
            spec,
        })
    }

    /// Asks for what the cache does not have.
    fn ask(&mut self, batch: Batch, now: Millis) -> Result<Rows> {
        let encoded = self.keys.encode_columns(&batch, &self.spec.left_keys)?;
        let valid = all_valid(&batch, &self.spec.left_keys);
        let mut numbers: HashMap<&[u8], u32> = HashMap::new();
        let (mut keys, mut known, mut asked, mut first) = (Vec::with_capacity(batch.rows()), vec![], vec![], vec![]);
        for row in 0..batch.rows() {
            if valid.as_ref().is_some_and(|v| !v[row]) {
                keys.push(None);
                continue;
            }
            let key = encoded.get(row);
            let number = *numbers.entry(key).or_insert_with(|| {
                known.push(match self.cache.as_mut().and_then(|c| c.get(key, now)) {
                    Some(rows) => Known::Cached(rows),
                    None => {
                        first.push(row as u32);
                        if self.cache.is_some() {
                            asked.push(key.into());
                        }
                        Known::Asked(first.len() as u32 - 1)
                    }
                });
                known.len() as u32 - 1
            });
            keys.push(Some(number));
        }
        let answer = if first.is_empty() {
            None
        } else {
            let columns: Vec<ArrayRef> = self.spec.left_keys.iter().map(|k| batch.column(*k).clone()).collect();
            Some(self.lookup.ask(&take(&columns, &UInt32Array::from(first))?)?)
        };
        drop(numbers);
        Ok(Rows { batch, keys, known, asked, answer })
    }

    /// Gives what is answered, in order; waits for the first answer at most so long, and if `all` for all of them.
    fn give(&mut self, wait: Duration, all: bool, out: &mut Output<'_>) -> Result<()> {
        let mut wait = wait;
        while let Some(first) = self.waiting.front() {
            let found = match first {
                Waiting::Watermark(watermark) => {
                    self.released = *watermark;
                    out.emit_watermark(*watermark);
                    self.waiting.pop_front();
                    continue;
                }
                Waiting::Rows(Rows { answer: None, .. }) => None,
                Waiting::Rows(Rows { answer: Some(answer), .. }) => match answer.wait(wait) {
                    Some(found) => Some(found?),
                    // A look-up ends by itself, with an error at worst.
                    None if all => continue,
                    None => return Ok(()),
                },
            };
            if !all {
                wait = Duration::ZERO;
            }
            if let Some(Waiting::Rows(rows)) = self.waiting.pop_front() {
                self.join(rows, found, out)?;
            }
        }
        Ok(())
    }

    fn join(&mut self, rows: Rows, found: Option<Found>, out: &mut Output<'_>) -> Result<()> {
        if let (Some(cache), Some(found)) = (&mut self.cache, &found) {
            keep(cache, &self.rows, &rows.asked, found, out.now())?;
        }
        let Rows { batch, keys, known, .. } = rows;
        let (right, places) = self.right(&known, found)?;
        let exists = self.spec.filter.as_ref().filter(|_| right.rows() > 0).map(|f| f.eval_mask(&right, out.context())).transpose()?;
        let project = self.spec.project.iter().map(|e| e.eval_array(&right, out.context()));
        let right = project.collect::<Result<Vec<_>>>()?;
        let (mut left_rows, mut right_rows) = (Vec::with_capacity(batch.rows()), Vec::with_capacity(batch.rows()));
        for (row, key) in keys.iter().enumerate() {
            let Some((start, end)) = key.map(|k| places[k as usize]) else { continue };
            for at in start..end {
                if exists.as_ref().is_none_or(|e| e.is_valid_and_true(at as usize)) {
                    left_rows.push(row as u32);
                    right_rows.push(at);
                }
            }
        }
        let passes = self.passing(&batch, &right, &left_rows, &right_rows, out.context())?;
        let mut pairs: Vec<(u32, Option<u32>)> = Vec::with_capacity(batch.rows());
        let mut next = 0;
        for row in 0..batch.rows() as u32 {
            let before = pairs.len();
            while next < left_rows.len() && left_rows[next] == row {
                if passes.as_ref().is_none_or(|p| p.is_valid_and_true(next)) {
                    pairs.push((row, Some(right_rows[next])));
                }
                next += 1;
            }
            if self.spec.outer && pairs.len() == before {
                pairs.push((row, None));
            }
        }
        let left = batch.take(&pairs.iter().map(|p| p.0).collect::<Vec<_>>().into())?;
        let at: UInt32Array = pairs.iter().map(|p| p.1).collect();
        let right = right.iter().map(|column| match column.is_empty() {
            true => Ok(new_null_array(column.data_type(), pairs.len())),
            false => Ok(arrow::compute::take(column, &at, None)?),
        });
        let right = right.collect::<Result<Vec<_>>>()?;
        out.emit(left.replace_columns(left.columns().iter().cloned().chain(right).collect()));
        Ok(())
    }

    /// All rows that were found, in the answer and in the cache, and by key where they are.
    fn right(&self, known: &[Known], found: Option<Found>) -> Result<(Batch, Vec<(u32, u32)>)> {
        let empty = || Batch::new(self.spec.fetched.iter().map(|t| arrow::array::new_empty_array(&t.to_arrow())).collect(), 0);
        let (rows, keys) = found.map_or_else(|| (empty(), vec![]), |f| (f.rows, f.keys));
        let mut cached: Vec<&[u8]> = vec![];
        let places = known.iter().map(|known| match known {
            Known::Asked(number) => {
                let (start, end) = (keys.partition_point(|k| k < number), keys.partition_point(|k| k <= number));
                (start as u32, end as u32)
            }
            Known::Cached(of_key) => {
                let start = rows.rows() + cached.len();
                cached.extend(of_key.iter().map(|r| &**r));
                (start as u32, (start + of_key.len()) as u32)
            }
        });
        let places = places.collect();
        if cached.is_empty() {
            return Ok((rows, places));
        }
        let count = cached.len();
        let cached = Batch::new(self.rows.decode(cached)?, count);
        Ok((if rows.is_empty() { cached } else { Batch::concat(&[rows, cached])? }, places))
    }

    /// Which pairs meet the condition; `None`: all.
    fn passing(
        &self,
        batch: &Batch,
        right: &[ArrayRef],
        left_rows: &[u32],
        right_rows: &[u32],
        cx: &EvalContext,
    ) -> Result<Option<BooleanArray>> {
        let Some(condition) = self.spec.condition.as_ref().filter(|_| !left_rows.is_empty()) else { return Ok(None) };
        let left = take(batch.columns(), &UInt32Array::from(left_rows.to_vec()))?;
        let right = take(right, &UInt32Array::from(right_rows.to_vec()))?;
        Ok(Some(condition.eval_mask(&Batch::new(left.into_iter().chain(right).collect(), left_rows.len()), cx)?))
    }
}

/// Puts an answer into the cache.
fn keep(cache: &mut LookupCache, codec: &RowCodec, asked: &[Box<[u8]>], found: &Found, now: Millis) -> Result<()> {
    let encoded = codec.encode(found.rows.columns())?;
    let mut next = 0;
    for (number, key) in asked.iter().enumerate() {
        let start = next;
        while found.keys.get(next).is_some_and(|k| *k as usize == number) {
            next += 1;
        }
        cache.put(key, (start..next).map(|r| encoded.get(r).into()).collect(), now);
    }
    Ok(())
}

impl Operator for LookupJoin {
    fn name(&self) -> &'static str {
        "LookupJoin"
    }

    fn batch(&mut self, _input: usize, batch: Batch, out: &mut Output<'_>) -> Result<()> {
        while self.waiting.len() >= IN_FLIGHT {
            self.give(MOMENT, false, out)?;
        }
        let rows = self.ask(batch, out.now())?;
        self.waiting.push_back(Waiting::Rows(rows));
        self.give(Duration::ZERO, false, out)
    }

    fn watermark(&mut self, now: Millis, out: &mut Output<'_>) -> Result<()> {
        if now == WATERMARK_MAX {
            return self.settle(out);
        }
        if !self.waiting.is_empty() {
            self.waiting.push_back(Waiting::Watermark(now));
        }
        Ok(())
    }

    fn output_watermark(&self, now: Millis) -> Millis {
        if self.waiting.is_empty() { now } else { self.released }
    }

    fn end_of_input(&mut self, _input: usize, out: &mut Output<'_>) -> Result<()> {
        self.settle(out)
    }

    fn flush(&mut self, out: &mut Output<'_>) -> Result<()> {
        self.give(MOMENT, false, out)
    }

    /// Answers are waited for: what was read before a commit has left before it. So there is no state.
    fn settle(&mut self, out: &mut Output<'_>) -> Result<()> {
        self.give(Duration::from_millis(100), true, out)
    }

    fn wants_ticks(&self) -> bool {
        self.cache.is_some()
    }

    fn tick(&mut self, now: Millis, _out: &mut Output<'_>) -> Result<()> {
        if let Some(cache) = self.cache.as_mut().filter(|_| now >= self.cleaned.saturating_add(CLEANUP)) {
            self.cleaned = now;
            cache.clean(now);
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.cache.as_ref().map_or(0, LookupCache::bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::mpsc::{Sender, channel};
    use std::sync::{Arc, Mutex};

    use arrow::array::{Array, AsArray};
    use sluice_batch::{Expr, Span};
    use sluice_connect::{CacheOptions, LookupRequest, TableSpec};

    use super::*;
    use crate::Item;
    use crate::testing::{batch, print, types};

    type Asked = Arc<Mutex<Vec<(Vec<String>, Sender<Result<Found>>)>>>;

    /// Takes note of what it is asked for.
    struct Fake(Asked);

    impl Lookup for Fake {
        fn ask(&mut self, keys: &[ArrayRef]) -> Result<Answer> {
            let (sender, receiver) = channel();
            let keys = keys[0].as_string::<i32>();
            self.0.lock().unwrap().push(((0..keys.len()).map(|i| keys.value(i).to_owned()).collect(), sender));
            Ok(Answer::new(receiver))
        }
    }

    /// Answers question `at`: rows and the numbers of their keys.
    fn answer(asked: &Asked, at: usize, rows: &str, keys: &[u32]) {
        let rows = batch(&types("string int"), rows);
        asked.lock().unwrap()[at].1.send(Ok(Found { rows, keys: keys.to_vec() })).unwrap();
    }

    struct Test {
        join: LookupJoin,
        asked: Asked,
        context: EvalContext,
    }

    impl Test {
        fn new(outer: bool, cache: Option<CacheOptions>, condition: Option<Expr>, filter: Option<Expr>) -> Self {
            let table =
                TableSpec { name: "t".into(), physical: vec![], metadata: vec![], primary_key: None, options: vec![], span: Span::NONE };
            let fetched = types("string int");
            let spec = LookupJoinSpec {
                table,
                request: LookupRequest { keys: vec![], columns: vec![0, 1], time_zone: chrono_tz::Tz::UTC },
                left: types("int string"),
                left_keys: vec![1],
                project: vec![Expr::column(1, fetched[1].clone())],
                fetched,
                filter,
                condition,
                outer,
                cache,
            };
            let asked = Asked::default();
            let join = LookupJoin::new(spec, Box::new(Fake(asked.clone()))).unwrap();
            Self { join, asked, context: EvalContext::default() }
        }

        fn call(&mut self, f: impl FnOnce(&mut LookupJoin, &mut Output<'_>) -> Result<()>) -> Vec<String> {
            let mut items = vec![];
            f(&mut self.join, &mut Output::new(&mut items, &self.context, 0)).unwrap();
            let line = |item: Item| match item {
                Item::Batch(b) => print(&b),
                Item::Watermark(w) => vec![format!("wm {w}")],
            };
            items.into_iter().flat_map(line).collect()
        }

        fn send(&mut self, rows: &str) -> Vec<String> {
            let rows = batch(&types("int string"), rows);
            self.call(|j, out| j.batch(0, rows, out))
        }

        fn questions(&self) -> Vec<Vec<String>> {
            self.asked.lock().unwrap().iter().map(|(k, _)| k.clone()).collect()
        }
    }

    #[test]
    fn rows_leave_in_order_with_all_matches() {
        let mut t = Test::new(true, None, None, None);
        assert!(t.send("1 a; 2 b; 3 a; 4 NULL").is_empty());
        assert!(t.send("-U 5 c; +U 5 a").is_empty());
        assert_eq!(t.questions(), [vec!["a", "b"], vec!["c", "a"]]);
        answer(&t.asked, 1, "c 7", &[0]);
        assert!(t.call(|j, out| j.flush(out)).is_empty(), "the first batch is not answered");
        answer(&t.asked, 0, "a 1; a 2", &[0, 0]);
        let want = ["+I 1 a 1", "+I 1 a 2", "+I 2 b NULL", "+I 3 a 1", "+I 3 a 2", "+I 4 NULL NULL", "-U 5 c 7", "+U 5 a NULL"];
        assert_eq!(t.call(|j, out| j.flush(out)), want);
    }

    #[test]
    fn time_waits_for_the_rows_before_it() {
        let mut t = Test::new(false, None, None, None);
        t.send("1 a");
        assert!(t.call(|j, out| j.watermark(100, out)).is_empty());
        assert_eq!(t.join.output_watermark(100), WATERMARK_NONE);
        t.send("2 b");
        answer(&t.asked, 0, "a 1", &[0]);
        assert_eq!(t.call(|j, out| j.flush(out)), ["+I 1 a 1", "wm 100"]);
        assert_eq!(t.join.output_watermark(120), 100);
        answer(&t.asked, 1, "", &[]);
        assert!(t.call(|j, out| j.end_of_input(0, out)).is_empty());
        assert_eq!(t.join.output_watermark(120), 120);
    }

    #[test]
    fn answers_are_kept() {
        let options = CacheOptions {
            max_rows: None,
            expire_after_write: Some(Duration::from_secs(10)),
            expire_after_access: None,
            missing_keys: true,
        };
        let mut t = Test::new(true, Some(options), None, None);
        t.send("1 a; 2 b");
        answer(&t.asked, 0, "a 1; a 2", &[0, 0]);
        t.call(|j, out| j.settle(out));
        assert_eq!(t.send("3 b; 4 a"), ["+I 3 b NULL", "+I 4 a 1", "+I 4 a 2"]);
        t.send("5 c; 6 a");
        answer(&t.asked, 1, "c 9", &[0]);
        assert_eq!(t.call(|j, out| j.flush(out)), ["+I 5 c 9", "+I 6 a 1", "+I 6 a 2"]);
        assert_eq!(t.questions(), [vec!["a", "b"], vec!["c"]]);
        t.context.now = 10_000;
        t.send("7 a");
        assert_eq!(t.questions().len(), 3);
    }

    #[test]
    fn filters_and_conditions() {
        use sluice_batch::TypeKind;
        let greater = |column: usize, kind: TypeKind| {
            let one = Expr::literal(sluice_batch::Datum::Int(1), TypeKind::Int.nullable());
            let args = vec![Expr::column(column, kind.nullable()), one];
            sluice_functions::bind(sluice_functions::Call { name: ">", args, symbols: vec![], json: Default::default(), span: Span::NONE })
                .unwrap()
        };
        // Of the table's rows only those with more than 1 exist.
        let mut t = Test::new(true, None, None, Some(greater(1, TypeKind::Int)));
        t.send("1 a; 2 b");
        answer(&t.asked, 0, "a 1; a 2; b 1", &[0, 0, 1]);
        assert_eq!(t.call(|j, out| j.flush(out)), ["+I 1 a 2", "+I 2 b NULL"]);
        // Pairs must have a left number above 1.
        let mut t = Test::new(false, None, Some(greater(0, TypeKind::Int)), None);
        t.send("1 a; 2 a");
        answer(&t.asked, 0, "a 1", &[0]);
        assert_eq!(t.call(|j, out| j.flush(out)), ["+I 2 a 1"]);
        // Without answers there are no columns to take from.
        let mut t = Test::new(true, None, None, None);
        assert_eq!(t.send("1 NULL"), ["+I 1 NULL NULL"]);
    }
}
