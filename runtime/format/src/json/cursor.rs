//! A cursor over the bytes of one JSON text: tokens, strings, numbers, and a fast way over values that nobody reads.

/// What is wrong with a record. Boxed, so that the way of the valid ones stays narrow.
#[derive(Debug)]
pub(crate) struct Fault {
    /// Position in the record.
    pub at: usize,
    pub what: &'static str,
    /// The text is no JSON: the whole record is lost, not only a field.
    pub syntax: bool,
    /// The type that was wanted.
    pub wanted: Option<String>,
    /// Names of the fields on the way, innermost first.
    pub path: Vec<String>,
}

pub(crate) type Parsed<T> = Result<T, Box<Fault>>;

/// The text of a scalar and whether it stood in quotes.
pub(crate) struct Cursor<'a> {
    pub bytes: &'a [u8],
    pub pos: usize,
}

/// A number as it stands in the text.
pub(crate) struct Number<'a> {
    pub text: &'a [u8],
    pub is_float: bool,
}

#[cold]
fn fault<T>(at: usize, what: &'static str, syntax: bool) -> Parsed<T> {
    Err(Box::new(Fault { at, what, syntax, wanted: None, path: vec![] }))
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Bytes of a word that are zero have their high bit set in the result; exact up to the lowest such byte.
#[inline]
fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGH
}

impl<'a> Cursor<'a> {
    /// A cursor at the start of a text. It must be valid UTF-8.
    pub fn new(bytes: &'a [u8]) -> Self {
        let pos = if bytes.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
        Self { bytes, pos }
    }

    #[cold]
    pub fn syntax<T>(&self, what: &'static str) -> Parsed<T> {
        if self.pos >= self.bytes.len() {
            return fault(self.pos, "the text ends too early", true);
        }
        fault(self.pos, what, true)
    }

    /// The value that starts at a position is not of the type wanted.
    #[cold]
    pub fn mismatch<T>(&self, at: usize, what: &'static str) -> Parsed<T> {
        fault(at, what, false)
    }

    /// The next byte that is not white space, or 0 at the end; the cursor stands on it.
    #[inline]
    pub fn peek(&mut self) -> u8 {
        while let Some(c) = self.bytes.get(self.pos) {
            if !matches!(c, b' ' | b'\n' | b'\r' | b'\t') {
                return *c;
            }
            self.pos += 1;
        }
        0
    }

    /// Goes over a byte that must come next.
    #[inline]
    pub fn expect(&mut self, c: u8, what: &'static str) -> Parsed<()> {
        if self.peek() == c {
            self.pos += 1;
            return Ok(());
        }
        self.syntax(what)
    }

    /// After an element of an array or object: true if another follows, false if `close` ended it.
    #[inline]
    pub fn more(&mut self, close: u8) -> Parsed<bool> {
        match self.peek() {
            b',' => {
                self.pos += 1;
                Ok(true)
            }
            c if c == close => {
                self.pos += 1;
                Ok(false)
            }
            _ => self.syntax("expected ',' or the end of the array or object"),
        }
    }

    /// Behind an opening bracket: true if it is closed at once.
    #[inline]
    pub fn closed(&mut self, close: u8) -> bool {
        let closed = self.peek() == close;
        self.pos += usize::from(closed);
        closed
    }

    /// The position of the next quote or backslash.
    #[inline]
    fn quote_or_escape(&self) -> usize {
        let mut pos = self.pos;
        while let Some(chunk) = self.bytes.get(pos..).and_then(<[u8]>::first_chunk::<8>) {
            let word = u64::from_le_bytes(*chunk);
            let hits = zero_bytes(word ^ (ONES * u64::from(b'"'))) | zero_bytes(word ^ (ONES * u64::from(b'\\')));
            if hits != 0 {
                return pos + (hits.trailing_zeros() / 8) as usize;
            }
            pos += 8;
        }
        while self.bytes.get(pos).is_some_and(|c| !matches!(c, b'"' | b'\\')) {
            pos += 1;
        }
        pos
    }

    /// Appends the string at the cursor (on its quote) to `out`, without quotes and escapes.
    #[inline]
    pub fn string_into(&mut self, out: &mut Vec<u8>) -> Parsed<()> {
        self.pos += 1;
        loop {
            let end = self.quote_or_escape();
            out.extend_from_slice(&self.bytes[self.pos..end]);
            self.pos = end;
            match self.bytes.get(end) {
                Some(b'"') => {
                    self.pos += 1;
                    return Ok(());
                }
                Some(_) => self.escape(out)?,
                None => return self.syntax("a string does not end"),
            }
        }
    }

    /// The string at the cursor (on its quote): a part of the text, or unescaped in `scratch`.
    #[inline]
    pub fn string<'s>(&mut self, scratch: &'s mut Vec<u8>) -> Parsed<&'s [u8]>
    where
        'a: 's,
    {
        let bytes = self.bytes;
        let start = self.pos + 1;
        self.pos = start;
        let end = self.quote_or_escape();
        if bytes.get(end) == Some(&b'"') {
            self.pos = end + 1;
            return Ok(&bytes[start..end]);
        }
        self.pos = start - 1;
        scratch.clear();
        self.string_into(scratch)?;
        Ok(scratch)
    }

    /// Goes over the string at the cursor (on its quote).
    #[inline]
    pub fn skip_string(&mut self) -> Parsed<()> {
        self.pos += 1;
        loop {
            self.pos = self.quote_or_escape();
            match self.bytes.get(self.pos) {
                Some(b'"') => {
                    self.pos += 1;
                    return Ok(());
                }
                Some(_) => self.pos += 2,
                None => return self.syntax("a string does not end"),
            }
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Parsed<()> {
        let c = match self.bytes.get(self.pos + 1) {
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'r') => b'\r',
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(c @ (b'"' | b'\\' | b'/')) => *c,
            Some(b'u') => return self.unicode_escape(out),
            _ => return self.syntax("unknown escape in a string"),
        };
        out.push(c);
        self.pos += 2;
        Ok(())
    }

    fn hex4(&self, at: usize) -> Option<u32> {
        let digits = self.bytes.get(at..at + 4)?;
        digits.iter().try_fold(0, |value, c| Some(value * 16 + (*c as char).to_digit(16)?))
    }

    /// `\uXXXX`, also as a surrogate pair. A lone surrogate becomes `?`, as when Java encodes it.
    fn unicode_escape(&mut self, out: &mut Vec<u8>) -> Parsed<()> {
        let Some(unit) = self.hex4(self.pos + 2) else { return self.syntax("bad \\u escape in a string") };
        self.pos += 6;
        let mut code = unit;
        let is_high = (0xD800..0xDC00).contains(&unit) && self.bytes.get(self.pos..self.pos + 2) == Some(b"\\u");
        if let Some(low) = self.hex4(self.pos + 2).filter(|low| is_high && (0xDC00..0xE000).contains(low)) {
            code = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
            self.pos += 6;
        }
        let mut buffer = [0; 4];
        out.extend_from_slice(char::from_u32(code).unwrap_or('?').encode_utf8(&mut buffer).as_bytes());
        Ok(())
    }

    /// The number at the cursor, by JSON's grammar.
    #[inline]
    pub fn number(&mut self) -> Parsed<Number<'a>> {
        let start = self.pos;
        let mut at = start + usize::from(self.bytes.get(start) == Some(&b'-'));
        let whole = at;
        let digits = |mut at: usize| {
            while self.bytes.get(at).is_some_and(u8::is_ascii_digit) {
                at += 1;
            }
            at
        };
        at = digits(at);
        if at == whole || (self.bytes[whole] == b'0' && at > whole + 1) {
            return self.syntax("not a JSON value");
        }
        let mut is_float = false;
        if self.bytes.get(at) == Some(&b'.') {
            is_float = true;
            let end = digits(at + 1);
            if end == at + 1 {
                return self.syntax("a number has no digits behind its point");
            }
            at = end;
        }
        if matches!(self.bytes.get(at), Some(b'e' | b'E')) {
            is_float = true;
            at += 1;
            at += usize::from(matches!(self.bytes.get(at), Some(b'+' | b'-')));
            let end = digits(at);
            if end == at {
                return self.syntax("a number has no digits in its exponent");
            }
            at = end;
        }
        self.pos = at;
        Ok(Number { text: &self.bytes[start..at], is_float })
    }

    /// Goes over `true`, `false` or `null` at the cursor, of which the first letter fits.
    #[inline]
    pub fn literal(&mut self, text: &'static [u8]) -> Parsed<()> {
        if self.bytes[self.pos..].starts_with(text) {
            self.pos += text.len();
            return Ok(());
        }
        self.syntax("not a JSON value")
    }

    /// Goes over a value without reading it. Of nested values only strings and the depth of brackets are looked at.
    #[inline]
    pub fn skip_value(&mut self) -> Parsed<()> {
        match self.peek() {
            b'"' => self.skip_string(),
            b'{' | b'[' => {
                self.pos += 1;
                self.skip_to_close()
            }
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            _ => self.number().map(|_| ()),
        }
    }

    /// Goes behind the bracket that closes the array or object that the cursor is in.
    pub fn skip_to_close(&mut self) -> Parsed<()> {
        let mut depth = 1_usize;
        while let Some(c) = self.bytes.get(self.pos) {
            match c {
                b'"' => {
                    self.skip_string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.pos += 1;
            if depth == 0 {
                return Ok(());
            }
        }
        self.syntax("an array or object does not end")
    }

    /// Nothing but white space may follow.
    pub fn end(&mut self) -> Parsed<()> {
        self.peek();
        if self.pos < self.bytes.len() {
            return self.syntax("text behind the end of the JSON value");
        }
        Ok(())
    }

    /// Appends the value at the cursor as compact JSON, as Jackson writes its tree.
    pub fn raw_json_into(&mut self, out: &mut Vec<u8>, depth: usize) -> Parsed<()> {
        if depth > MAX_DEPTH {
            return self.syntax("nested too deep");
        }
        match self.peek() {
            b'"' => {
                let mut text = vec![];
                self.string_into(&mut text)?;
                super::encode::write_string(out, &text, false);
                Ok(())
            }
            b'[' => self.raw_items(out, depth, b']'),
            b'{' => self.raw_items(out, depth, b'}'),
            b't' | b'f' | b'n' => {
                let start = self.pos;
                self.skip_value()?;
                out.extend_from_slice(&self.bytes[start..self.pos]);
                Ok(())
            }
            _ => {
                let number = self.number()?;
                write_raw_number(out, &number);
                Ok(())
            }
        }
    }

    fn raw_items(&mut self, out: &mut Vec<u8>, depth: usize, close: u8) -> Parsed<()> {
        out.push(self.bytes[self.pos]);
        self.pos += 1;
        if !self.closed(close) {
            loop {
                if close == b'}' {
                    if self.peek() != b'"' {
                        return self.syntax("expected a field name");
                    }
                    self.raw_json_into(out, depth + 1)?;
                    self.expect(b':', "expected ':'")?;
                    out.push(b':');
                }
                self.raw_json_into(out, depth + 1)?;
                if !self.more(close)? {
                    break;
                }
                out.push(b',');
            }
        }
        out.push(close);
        Ok(())
    }
}

/// How deep JSON may be nested where it is read by recursion (Jackson: 1000).
pub(crate) const MAX_DEPTH: usize = 500;

/// Jackson reads a fraction as a double and prints that; beyond what a double holds exactly we keep the text.
fn write_raw_number(out: &mut Vec<u8>, number: &Number<'_>) {
    let significant = number.text.iter().take_while(|c| !matches!(c, b'e' | b'E')).filter(|c| c.is_ascii_digit()).count();
    match crate::text::parse_float::<f64>(number.text) {
        Some(value) if number.is_float && significant <= 15 && value.is_finite() => crate::text::write_double(out, value),
        _ => out.extend_from_slice(number.text),
    }
}
