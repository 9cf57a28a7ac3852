//! JSON paths as Jayway's JsonPath (2.x) reads them: `$.a['b'][0,-1][1:3].*..c[?(@.d > 1)].length()`.

use std::borrow::Cow;

use super::filter::{self, Filter};
use super::value::Json;

/// A path, ready to be applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Path {
    steps: Vec<Step>,
    /// A function at the end, e.g. `.length()`.
    function: Option<Function>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Fields(Vec<String>),
    Indexes(Vec<i64>),
    Slice(Option<i64>, Option<i64>),
    Wildcard,
    /// `..`: the step after it applies to the value and everything below.
    Scan,
    Filter(Filter),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Function {
    Length,
    Keys,
    Min,
    Max,
    Avg,
    Sum,
}

/// What a path gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Found<'j, 'a> {
    One(Cow<'j, Json<'a>>),
    /// An indefinite path gives a list.
    Many(Vec<&'j Json<'a>>),
}

/// Why a path gives nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum PathError {
    /// It does not exist in the document: Jayway's `PathNotFoundException`.
    NotFound(String),
    /// It is no path: Jayway's `InvalidPathException`.
    Invalid(String),
}

impl std::fmt::Display for PathError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PathError::NotFound(m) | PathError::Invalid(m) => f.write_str(m),
        }
    }
}

impl Path {
    /// Compiles a path. Without `$` at the start it is taken as `$.path`.
    ///
    /// # Errors
    /// [`PathError::Invalid`]
    pub fn compile(text: &str) -> Result<Self, PathError> {
        let text = text.trim();
        let full = if text.starts_with(['$', '@']) { Cow::Borrowed(text) } else { Cow::Owned(format!("$.{text}")) };
        let mut parser = PathParser { text: &full, at: 1 };
        let path = parser.path()?;
        if parser.at < full.len() { Err(parser.invalid("unexpected character")) } else { Ok(path) }
    }

    /// A relative path (`@.a.b`) inside a filter: the path and how many bytes it took.
    pub(super) fn prefix(text: &str) -> Result<(Self, usize), PathError> {
        let mut parser = PathParser { text, at: 1 };
        let path = parser.path()?;
        Ok((path, parser.at))
    }

    /// Whether the path can give only one value.
    pub fn is_definite(&self) -> bool {
        self.function.is_some() || self.steps.iter().all(Step::is_definite)
    }

    /// Applies the path.
    ///
    /// # Errors
    /// [`PathError::NotFound`]
    pub fn read<'j, 'a>(&self, root: &'j Json<'a>) -> Result<Found<'j, 'a>, PathError> {
        let mut current = vec![root];
        let mut definite = true;
        let mut steps = self.steps.iter().enumerate();
        let last = self.steps.len().saturating_sub(1);
        while let Some((i, step)) = steps.next() {
            if let Step::Fields(names) = step
                && names.len() > 1
                && definite
                && i == last
                && self.function.is_none()
            {
                return Ok(Found::One(Cow::Owned(several_fields(current[0], names)?)));
            }
            let scanned = matches!(step, Step::Scan);
            let step = if scanned {
                current = descendants(&current);
                definite = false;
                match steps.next() {
                    Some((_, next)) => next,
                    None => return Err(PathError::Invalid("Path must not end with a '.' or '..'".into())),
                }
            } else {
                step
            };
            let mut next = Vec::new();
            for value in current {
                match step.apply(value, root, &mut next) {
                    Err(e) if definite => return Err(e),
                    _ => {}
                }
            }
            definite &= step.is_definite();
            current = next;
        }
        match (self.function, definite) {
            (Some(function), _) => function.apply(&current, definite).map(|v| Found::One(Cow::Owned(v))),
            (None, true) => match current.first() {
                Some(value) => Ok(Found::One(Cow::Borrowed(*value))),
                None => Err(PathError::NotFound("No results for path".into())),
            },
            (None, false) => Ok(Found::Many(current)),
        }
    }
}

fn several_fields<'a>(value: &Json<'a>, names: &[String]) -> Result<Json<'a>, PathError> {
    let Json::Object(fields) = value else {
        return Err(PathError::NotFound(format!("Expected to find an object with properties {names:?} in path")));
    };
    let present = names.iter().filter_map(|n| fields.iter().find(|(k, _)| k == n).cloned());
    Ok(Json::Object(present.collect()))
}

/// The values and everything below them, parents first.
fn descendants<'j, 'a>(values: &[&'j Json<'a>]) -> Vec<&'j Json<'a>> {
    let mut out = Vec::new();
    let mut stack: Vec<&'j Json<'a>> = values.iter().rev().copied().collect();
    while let Some(value) = stack.pop() {
        out.push(value);
        match value {
            Json::Array(items) => stack.extend(items.iter().rev()),
            Json::Object(fields) => stack.extend(fields.iter().rev().map(|(_, v)| v)),
            _ => {}
        }
    }
    out
}

impl Step {
    fn is_definite(&self) -> bool {
        match self {
            Step::Fields(names) => names.len() == 1,
            Step::Indexes(indexes) => indexes.len() == 1,
            _ => false,
        }
    }

    fn apply<'j, 'a>(&self, value: &'j Json<'a>, root: &'j Json<'a>, out: &mut Vec<&'j Json<'a>>) -> Result<(), PathError> {
        let not_found = |what: String| Err(PathError::NotFound(format!("No results for path: {what}")));
        match (self, value) {
            (Step::Fields(names), Json::Object(fields)) => {
                let before = out.len();
                out.extend(names.iter().filter_map(|n| fields.iter().find(|(k, _)| k == n).map(|(_, v)| v)));
                if out.len() == before {
                    return not_found(format!("{names:?}"));
                }
            }
            (Step::Fields(names), _) => return not_found(format!("{names:?} of a value that is no object")),
            (Step::Indexes(indexes), Json::Array(items)) => {
                let before = out.len();
                let at = |i: &i64| usize::try_from(if *i < 0 { *i + items.len() as i64 } else { *i }).ok();
                out.extend(indexes.iter().filter_map(|i| items.get(at(i)?)));
                if out.len() == before {
                    return not_found(format!("{indexes:?}"));
                }
            }
            (Step::Slice(from, to), Json::Array(items)) => {
                let size = items.len() as i64;
                let bound = |i: i64| (if i < 0 { i + size } else { i }).clamp(0, size) as usize;
                let (from, to) = (bound(from.unwrap_or(0)), bound(to.unwrap_or(size)));
                out.extend(items.get(from..to).unwrap_or_default());
            }
            (Step::Indexes(_) | Step::Slice(..), _) => return not_found("an index of a value that is no array".into()),
            (Step::Wildcard, Json::Array(items)) => out.extend(items),
            (Step::Wildcard, Json::Object(fields)) => out.extend(fields.iter().map(|(_, v)| v)),
            (Step::Filter(filter), Json::Array(items)) => out.extend(items.iter().filter(|i| filter.accepts(i, root))),
            (Step::Filter(filter), Json::Object(_)) if filter.accepts(value, root) => out.push(value),
            (Step::Wildcard | Step::Filter(_) | Step::Scan, _) => {}
        }
        Ok(())
    }
}

impl Function {
    fn find(name: &str) -> Option<Self> {
        Some(match name {
            "length" | "size" => Function::Length,
            "keys" => Function::Keys,
            "min" => Function::Min,
            "max" => Function::Max,
            "avg" => Function::Avg,
            "sum" => Function::Sum,
            _ => return None,
        })
    }

    fn apply<'a>(self, values: &[&Json<'a>], definite: bool) -> Result<Json<'a>, PathError> {
        let number = |v: f64| Json::Number(Cow::Owned(double_text(v)));
        let only = values.first().copied().filter(|_| definite);
        let items: Vec<&Json<'a>> = match only {
            Some(Json::Array(items)) => items.iter().collect(),
            _ => values.to_vec(),
        };
        match self {
            Function::Length => Ok(match only {
                Some(Json::Array(items)) => Json::Number(items.len().to_string().into()),
                Some(Json::Object(fields)) => Json::Number(fields.len().to_string().into()),
                Some(Json::String(text)) => Json::Number(text.encode_utf16().count().to_string().into()),
                Some(_) => Json::Null,
                None => Json::Number(values.len().to_string().into()),
            }),
            Function::Keys => Ok(match only {
                Some(Json::Object(fields)) => Json::Array(fields.iter().map(|(k, _)| Json::String(k.clone())).collect()),
                _ => Json::Null,
            }),
            _ => {
                let numbers: Vec<f64> = items.iter().filter_map(|v| if let Json::Number(n) = v { n.parse().ok() } else { None }).collect();
                if numbers.is_empty() {
                    return Err(PathError::NotFound("Aggregation function attempted to calculate value using empty array".into()));
                }
                let sum: f64 = numbers.iter().sum();
                Ok(number(match self {
                    Function::Min => numbers.iter().copied().fold(f64::INFINITY, f64::min),
                    Function::Max => numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                    Function::Avg => sum / numbers.len() as f64,
                    _ => sum,
                }))
            }
        }
    }
}

fn double_text(value: f64) -> String {
    let mut out = String::new();
    crate::cast::render::push_double(&mut out, value);
    out
}

struct PathParser<'t> {
    text: &'t str,
    at: usize,
}

impl PathParser<'_> {
    fn invalid(&self, message: &str) -> PathError {
        PathError::Invalid(format!("{message} at position {} of path {}", self.at, self.text))
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    fn take(&mut self, token: &str) -> bool {
        let hit = self.text[self.at..].starts_with(token);
        self.at += if hit { token.len() } else { 0 };
        hit
    }

    fn path(&mut self) -> Result<Path, PathError> {
        let mut steps = Vec::new();
        loop {
            if self.take("..") {
                steps.push(Step::Scan);
                if self.peek() != Some('[')
                    && let Some(function) = self.name_or_wildcard(&mut steps)?
                {
                    return Ok(Path { steps, function: Some(function) });
                }
            } else if self.take(".") {
                if self.peek() == Some('[') {
                    // `$.['a']` is `$['a']`.
                    continue;
                }
                if let Some(function) = self.name_or_wildcard(&mut steps)? {
                    return Ok(Path { steps, function: Some(function) });
                }
            } else if self.take("[") {
                let step = self.bracket()?;
                steps.push(step);
            } else {
                return Ok(Path { steps, function: None });
            }
        }
    }

    /// What follows a dot. A name with parentheses is a function and ends the path.
    fn name_or_wildcard(&mut self, steps: &mut Vec<Step>) -> Result<Option<Function>, PathError> {
        if self.take("*") {
            steps.push(Step::Wildcard);
            return Ok(None);
        }
        let start = self.at;
        while let Some(c) =
            self.peek().filter(|c| !matches!(c, '.' | '[' | '(' | ' ' | ')' | '=' | '<' | '>' | '!' | '&' | '|' | ']' | ','))
        {
            self.at += c.len_utf8();
        }
        let name = &self.text[start..self.at];
        if name.is_empty() {
            return Err(self.invalid("Path must not end with a '.' or '..'"));
        }
        if self.take("()") {
            return match Function::find(name) {
                Some(function) => Ok(Some(function)),
                None => Err(self.invalid(&format!("Function with name: {name} does not exist"))),
            };
        }
        steps.push(Step::Fields(vec![name.to_owned()]));
        Ok(None)
    }

    fn bracket(&mut self) -> Result<Step, PathError> {
        self.skip_space();
        let step = match self.peek() {
            Some('*') => {
                self.at += 1;
                Step::Wildcard
            }
            Some('\'' | '"') => Step::Fields(self.names()?),
            Some('?') => {
                self.at += 1;
                let (filter, length) = filter::parse(&self.text[self.at..]).map_err(|m| self.invalid(&m))?;
                self.at += length;
                Step::Filter(filter)
            }
            Some('-' | ':' | '0'..='9') => self.indexes()?,
            _ => return Err(self.invalid("expected an index, a name in quotes, * or a filter")),
        };
        self.skip_space();
        if self.take("]") { Ok(step) } else { Err(self.invalid("expected ]")) }
    }

    fn names(&mut self) -> Result<Vec<String>, PathError> {
        let mut names = Vec::new();
        loop {
            self.skip_space();
            let (name, length) = filter::quoted(&self.text[self.at..]).ok_or_else(|| self.invalid("expected a name in quotes"))?;
            self.at += length;
            names.push(name);
            self.skip_space();
            if !self.take(",") {
                return Ok(names);
            }
        }
    }

    fn integer(&mut self) -> Result<Option<i64>, PathError> {
        self.skip_space();
        let start = self.at;
        self.take("-");
        while matches!(self.peek(), Some('0'..='9')) {
            self.at += 1;
        }
        let text = &self.text[start..self.at];
        self.skip_space();
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| self.invalid("not an index"))
    }

    fn indexes(&mut self) -> Result<Step, PathError> {
        let first = self.integer()?;
        if self.take(":") {
            let end = self.integer()?;
            return if first.is_none() && end.is_none() { Err(self.invalid("a slice needs a bound")) } else { Ok(Step::Slice(first, end)) };
        }
        let mut indexes: Vec<i64> = first.into_iter().collect();
        while self.take(",") {
            indexes.extend(self.integer()?);
        }
        if indexes.is_empty() { Err(self.invalid("expected an index")) } else { Ok(Step::Indexes(indexes)) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::json::parse;
    use proptest::prelude::*;

    const DOCUMENT: &str = r#"{"a":{"b":[1,2,3,4]},"c d":"x","n":null,"l":[{"k":1,"v":"p"},{"k":2},{"k":3,"v":"q"}]}"#;

    fn read(path: &str) -> Result<String, PathError> {
        let document = parse(DOCUMENT).unwrap();
        let mut out = String::new();
        match Path::compile(path)?.read(&document)? {
            Found::One(v) => v.write(&mut out),
            Found::Many(v) => Json::Array(v.into_iter().cloned().collect()).write(&mut out),
        }
        Ok(out)
    }

    #[test]
    fn paths_give_what_jayway_gives() {
        for (path, expected) in [
            ("$.a.b[0]", "1"),
            ("$.a.b[-1]", "4"),
            ("$['a']['b'][1]", "2"),
            ("$.['c d']", "\"x\""),
            ("a.b[0]", "1"),
            ("$.n", "null"),
            ("$.a.b[0,2]", "[1,3]"),
            ("$.a.b[1:3]", "[2,3]"),
            ("$.a.b[:2]", "[1,2]"),
            ("$.a.b[-2:]", "[3,4]"),
            ("$.a.*", "[[1,2,3,4]]"),
            ("$.l[*].k", "[1,2,3]"),
            ("$.l[*].v", "[\"p\",\"q\"]"),
            ("$..k", "[1,2,3]"),
            ("$.l[?(@.k > 1)].k", "[2,3]"),
            ("$.l[?(@.v)].k", "[1,3]"),
            ("$.l[?(@.v == 'p' || @.k == 2)].k", "[1,2]"),
            ("$.l[?(!(@.k >= 2) && @.v)].k", "[1]"),
            ("$.a.b.length()", "4"),
            ("$.a.b.max()", "4.0"),
            ("$.l[0]['k','v']", r#"{"k":1,"v":"p"}"#),
            ("$", DOCUMENT),
        ] {
            if path == "$" {
                assert!(read(path).unwrap().contains("\"c d\":\"x\""));
            } else {
                assert_eq!(read(path).as_deref(), Ok(expected), "{path}");
            }
        }
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        for path in ["$.x", "$.a.x.y", "$.a.b[9]", "$.a[0]", "$.a.b.c", "$['c d'].x"] {
            assert!(matches!(read(path), Err(PathError::NotFound(_))), "{path}");
        }
    }

    #[test]
    fn what_is_no_path_is_invalid() {
        for path in ["$.", "$..", "$[", "$['a", "$.a[x]", "$.a.nope()", "$[]", "$[?(@.a >)]", "$[:]"] {
            assert!(matches!(Path::compile(path), Err(PathError::Invalid(_))), "{path}");
        }
        assert!(Path::compile("$.a.b[0]").unwrap().is_definite());
        assert!(!Path::compile("$.a[*]").unwrap().is_definite());
    }

    proptest! {
        #[test]
        fn any_path_is_compiled_without_a_panic(path in "[$@.a-c\\[\\]'\"()?*:,0-9 <>=!&|-]*|\\PC*") {
            let document = parse(DOCUMENT).unwrap();
            if let Ok(path) = Path::compile(&path) {
                let _ = path.read(&document);
            }
        }
    }
}
