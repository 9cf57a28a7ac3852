//! Filters in JSON paths: `[?(@.price < 10 && @.name == 'x')]`.

use std::cmp::Ordering;

use super::path::{Found, Path};
use super::value::Json;

#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    And(Vec<Filter>),
    Or(Vec<Filter>),
    Not(Box<Filter>),
    /// The path exists.
    Exists(Operand),
    Compare(Operand, Comparison, Operand),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// Of the item at hand (`@`).
    Item(Path),
    /// Of the document (`$`).
    Root(Path),
    Literal(Json<'static>),
}

/// How deep filters may be nested: no stack overflow by a hostile path.
const MAX_DEPTH: usize = 64;

/// Parses `(…)` behind the `?`, and says how many bytes it took.
pub(super) fn parse(text: &str) -> Result<(Filter, usize), String> {
    let mut parser = FilterParser { text, at: 0 };
    parser.skip_space();
    if !parser.take("(") {
        return Err("expected ( behind ?".into());
    }
    let filter = parser.or(0)?;
    if !parser.take(")") {
        return Err("expected ) at the end of a filter".into());
    }
    Ok((filter, parser.at))
}

/// A string in single or double quotes, `\` escapes the next character; and how many bytes it took.
pub(super) fn quoted(text: &str) -> Option<(String, usize)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let mut out = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => out.push(chars.next()?.1),
            c if c == quote => return Some((out, at + 1)),
            c => out.push(c),
        }
    }
    None
}

struct FilterParser<'t> {
    text: &'t str,
    at: usize,
}

impl FilterParser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn skip_space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    /// A token behind spaces.
    fn take(&mut self, token: &str) -> bool {
        self.skip_space();
        let hit = self.rest().starts_with(token);
        self.at += if hit { token.len() } else { 0 };
        hit
    }

    fn or(&mut self, depth: usize) -> Result<Filter, String> {
        if depth > MAX_DEPTH {
            return Err("the filter is nested too deeply".into());
        }
        let mut all = vec![self.and(depth)?];
        while self.take("||") {
            all.push(self.and(depth)?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Filter::Or(all) })
    }

    fn and(&mut self, depth: usize) -> Result<Filter, String> {
        let mut all = vec![self.unary(depth)?];
        while self.take("&&") {
            all.push(self.unary(depth)?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Filter::And(all) })
    }

    fn unary(&mut self, depth: usize) -> Result<Filter, String> {
        if depth > MAX_DEPTH {
            return Err("the filter is nested too deeply".into());
        }
        if self.take("!") {
            return Ok(Filter::Not(Box::new(self.unary(depth + 1)?)));
        }
        if self.take("(") {
            let inner = self.or(depth + 1)?;
            return if self.take(")") { Ok(inner) } else { Err("expected ) in a filter".into()) };
        }
        let left = self.operand()?;
        let Some(comparison) = self.comparison() else {
            return Ok(Filter::Exists(left));
        };
        Ok(Filter::Compare(left, comparison, self.operand()?))
    }

    fn comparison(&mut self) -> Option<Comparison> {
        // Longer ones first.
        let all = [
            ("===", Comparison::Equal),
            ("!==", Comparison::NotEqual),
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<>", Comparison::NotEqual),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
            ("in ", Comparison::In),
            ("nin ", Comparison::NotIn),
        ];
        all.iter().find(|(token, _)| self.take(token)).map(|(_, c)| *c)
    }

    fn operand(&mut self) -> Result<Operand, String> {
        self.skip_space();
        let rest = self.rest();
        match rest.chars().next() {
            Some(c @ ('@' | '$')) => {
                let (path, length) = Path::prefix(rest).map_err(|e| e.to_string())?;
                self.at += length;
                Ok(if c == '@' { Operand::Item(path) } else { Operand::Root(path) })
            }
            Some('\'' | '"') => {
                let (text, length) = quoted(rest).ok_or("a string in a filter does not end")?;
                self.at += length;
                Ok(Operand::Literal(Json::String(text.into())))
            }
            _ => {
                let mut length = rest.find([')', ' ', '&', '|', '<', '>', '=', '!']).unwrap_or(rest.len());
                if rest.starts_with('[') {
                    length = rest.find(']').map_or(rest.len(), |end| end + 1);
                }
                let text = rest[..length].replace('\'', "\"");
                let value = super::parse_all(&text, false).map_err(|_| format!("{text} is not a value in a filter"))?;
                self.at += length;
                Ok(Operand::Literal(owned(&value)))
            }
        }
    }
}

/// A copy that borrows nothing.
fn owned(value: &Json<'_>) -> Json<'static> {
    match value {
        Json::Null => Json::Null,
        Json::Boolean(b) => Json::Boolean(*b),
        Json::Number(n) => Json::Number(n.to_string().into()),
        Json::String(s) => Json::String(s.to_string().into()),
        Json::Array(items) => Json::Array(items.iter().map(owned).collect()),
        Json::Object(fields) => Json::Object(fields.iter().map(|(k, v)| (k.to_string().into(), owned(v))).collect()),
    }
}

impl Operand {
    /// The value; `None` if the path does not exist.
    fn value<'j>(&'j self, item: &'j Json<'_>, root: &'j Json<'_>) -> Option<Json<'j>> {
        let (path, from) = match self {
            Operand::Literal(value) => return Some(value.clone()),
            Operand::Item(path) => (path, item),
            Operand::Root(path) => (path, root),
        };
        match path.read(from).ok()? {
            Found::One(value) => Some(owned(&value)),
            Found::Many(values) => Some(Json::Array(values.into_iter().map(owned).collect())),
        }
    }
}

impl Filter {
    pub(super) fn accepts(&self, item: &Json<'_>, root: &Json<'_>) -> bool {
        match self {
            Filter::And(all) => all.iter().all(|f| f.accepts(item, root)),
            Filter::Or(all) => all.iter().any(|f| f.accepts(item, root)),
            Filter::Not(inner) => !inner.accepts(item, root),
            Filter::Exists(operand) => operand.value(item, root).is_some_and(|v| v != Json::Boolean(false)),
            Filter::Compare(left, comparison, right) => match (left.value(item, root), right.value(item, root)) {
                (Some(left), Some(right)) => comparison.holds(&left, &right),
                // A path that does not exist differs from everything.
                _ => matches!(comparison, Comparison::NotEqual | Comparison::NotIn),
            },
        }
    }
}

impl Comparison {
    fn holds(self, left: &Json<'_>, right: &Json<'_>) -> bool {
        let order = order(left, right);
        match self {
            Comparison::Equal => order == Some(Ordering::Equal),
            Comparison::NotEqual => order != Some(Ordering::Equal),
            Comparison::Less => order == Some(Ordering::Less),
            Comparison::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            Comparison::Greater => order == Some(Ordering::Greater),
            Comparison::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
            Comparison::In | Comparison::NotIn => {
                let found = matches!(right, Json::Array(items) if items.iter().any(|i| self::order(left, i) == Some(Ordering::Equal)));
                found == (self == Comparison::In)
            }
        }
    }
}

/// The order of two values of one kind; `None` if they cannot be compared.
fn order(left: &Json<'_>, right: &Json<'_>) -> Option<Ordering> {
    match (left, right) {
        (Json::Number(a), Json::Number(b)) => a.parse::<f64>().ok()?.partial_cmp(&b.parse::<f64>().ok()?),
        (Json::String(a), Json::String(b)) => Some(a.cmp(b)),
        _ => (left == right).then_some(Ordering::Equal),
    }
}
