//! SQL text without its meaning: where statements end, and lines for those that a YAML string has folded into one.

/// Statements of a script, without their semicolons, trimmed. Quotes and comments are respected.
pub fn statements(text: &str) -> Vec<String> {
    let mut found = vec![];
    let mut current = String::new();
    let mut chars = text.chars().peekable();
    let mut state = State::Plain;
    while let Some(c) = chars.next() {
        let next = state.after(c, chars.peek().copied());
        if c == ';' && state == State::Plain {
            push(&mut found, &mut current);
        } else {
            current.push(c);
        }
        state = next;
    }
    push(&mut found, &mut current);
    found
}

fn push(found: &mut Vec<String>, current: &mut String) {
    let statement = std::mem::take(current);
    if !statement.trim().is_empty() {
        found.push(statement.trim().to_owned());
    }
}

/// Where a character stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Plain,
    Quoted(char),
    Line,
    Block,
    /// At the second character of `/*`, which does not end it as `*/` would.
    BlockBegins,
    /// At the second character of `*/`.
    BlockEnds,
}

impl State {
    /// Behind `c`, which `next` follows.
    fn after(self, c: char, next: Option<char>) -> Self {
        match self {
            Self::Plain => match (c, next) {
                ('\'' | '"' | '`', _) => Self::Quoted(c),
                ('-', Some('-')) => Self::Line,
                ('/', Some('*')) => Self::BlockBegins,
                _ => Self::Plain,
            },
            // A doubled quote ends the text and begins another one: the same for what is asked here.
            Self::Quoted(quote) if c == quote => Self::Plain,
            Self::Line if c == '\n' => Self::Plain,
            Self::BlockBegins => Self::Block,
            Self::Block if c == '*' && next == Some('/') => Self::BlockEnds,
            Self::BlockEnds => Self::Plain,
            other => other,
        }
    }
}

/// The script with a line break behind each statement; statements in one line get more.
pub fn laid_out(text: &str) -> String {
    statements(text).iter().map(|s| layout(s) + ";\n").collect()
}

/// Words before which a line begins, outside of parentheses.
const CLAUSES: &[&str] = &[
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP",
    "HAVING",
    "WINDOW",
    "UNION",
    "INTERSECT",
    "EXCEPT",
    "INNER",
    "LEFT",
    "RIGHT",
    "FULL",
    "CROSS",
    "JOIN",
    "MATCH_RECOGNIZE",
    "LIMIT",
];
/// Of two words in a row the first one begins the line.
const JOINED: &[&str] = &["INNER", "LEFT", "RIGHT", "FULL", "CROSS", "OUTER"];
/// The same within MATCH_RECOGNIZE.
const MATCH: &[&str] = &["PARTITION", "ORDER", "MEASURES", "ONE", "AFTER", "PATTERN", "DEFINE", "SUBSET"];

fn layout(statement: &str) -> String {
    if statement.contains('\n') {
        // What is within quotes must not change.
        return if quotes_a_line(statement) { statement.to_owned() } else { dedented(statement) };
    }
    let declares = first_words(statement).starts_with("CREATE TABLE") || first_words(statement).starts_with("CREATE TEMPORARY TABLE");
    let mut out = Layout { out: String::new(), depth: 0, angles: 0, declares, matches: false, last: String::new() };
    let (mut state, mut word) = (State::Plain, String::new());
    let mut chars = statement.chars().peekable();
    while let Some(c) = chars.next() {
        let next = state.after(c, chars.peek().copied());
        if state == State::Plain && (c.is_alphanumeric() || c == '_') {
            word.push(c);
        } else {
            out.word(&std::mem::take(&mut word));
            if state == State::Plain { out.plain(c) } else { out.out.push(c) }
        }
        state = next;
    }
    out.word(&word);
    out.out
}

fn quotes_a_line(text: &str) -> bool {
    let (mut state, mut chars) = (State::Plain, text.chars().peekable());
    while let Some(c) = chars.next() {
        if c == '\n' && matches!(state, State::Quoted(_)) {
            return true;
        }
        state = state.after(c, chars.peek().copied());
    }
    false
}

fn first_words(statement: &str) -> String {
    statement.split_whitespace().take(3).collect::<Vec<_>>().join(" ").to_uppercase()
}

/// A statement that is written character by character.
struct Layout {
    out: String,
    depth: usize,
    /// Of `ROW<…>`.
    angles: usize,
    declares: bool,
    matches: bool,
    last: String,
}

impl Layout {
    fn line(&mut self, indent: usize) {
        self.out.truncate(self.out.trim_end().len());
        self.out.push('\n');
        self.out.push_str(&" ".repeat(indent));
    }

    fn word(&mut self, word: &str) {
        if word.is_empty() {
            return;
        }
        let upper = word.to_uppercase();
        let begins = !self.out.is_empty() && !self.declares;
        if begins && self.depth == 0 && CLAUSES.contains(&upper.as_str()) && !JOINED.contains(&self.last.as_str()) {
            self.line(0);
        } else if begins && self.depth == 1 && self.matches && MATCH.contains(&upper.as_str()) {
            self.line(4);
        }
        self.matches |= upper == "MATCH_RECOGNIZE";
        self.out.push_str(word);
        self.last = upper;
    }

    fn plain(&mut self, c: char) {
        match c {
            '(' => {
                self.out.push(c);
                self.depth += 1;
                if self.declares && self.depth == 1 {
                    self.line(4);
                }
            }
            ')' => {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 0 && (self.declares || self.matches) {
                    self.line(0);
                }
                self.matches &= self.depth > 0;
                self.out.push(c);
            }
            '<' if ["ROW", "ARRAY", "MAP", "MULTISET"].contains(&self.last.as_str()) => {
                self.angles += 1;
                self.out.push(c);
            }
            '>' => {
                self.angles = self.angles.saturating_sub(1);
                self.out.push(c);
            }
            ',' if self.declares && self.depth == 1 && self.angles == 0 => {
                self.out.push(c);
                self.line(4);
            }
            c if c.is_whitespace() => {
                if !self.out.ends_with([' ', '\n']) {
                    self.out.push(' ');
                }
            }
            c => self.out.push(c),
        }
    }
}

/// Without trailing spaces and the indentation that all lines but the first share.
fn dedented(text: &str) -> String {
    let indent =
        text.lines().skip(1).filter(|l| !l.trim().is_empty()).map(|l| l.len() - l.trim_start_matches(' ').len()).min().unwrap_or(0);
    let lines = text.lines().enumerate().map(|(i, line)| {
        let line = line.trim_end();
        if i == 0 { line } else { line.get(indent.min(line.len())..).unwrap_or_default() }
    });
    lines.collect::<Vec<_>>().join("\n")
}
