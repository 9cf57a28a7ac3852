//! Patterns of Java's `DateTimeFormatter`: compiled once, then used to print and to read local times.
//!
//! Source of the rules: the documentation of `java.time.format.DateTimeFormatter` and `DateTimeFormatterBuilder`
//! (locale `en_US`, resolver style SMART).

mod print;
mod read;

/// What a letter stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Era,
    YearOfEra,
    Year,
    WeekYear,
    Quarter,
    Month,
    WeekOfYear,
    WeekOfMonth,
    Day,
    DayOfYear,
    DayOfWeekInMonth,
    Weekday,
    /// Numbered from the locale's first day, Sunday.
    LocalWeekday,
    AmPm,
    /// 0 to 23
    Hour,
    /// 1 to 24
    ClockHour,
    /// 0 to 11
    HourOfAmPm,
    /// 1 to 12
    ClockHourOfAmPm,
    Minute,
    Second,
    /// Digits behind the point.
    Fraction,
    Nano,
    MilliOfDay,
    NanoOfDay,
    /// An offset or the id of a zone: local times have none, so it can be read (and is ignored) but not printed.
    Offset(char, usize),
}

/// How many digits a number has, and its sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    Normal,
    NotNegative,
    /// `+` where the number has more digits than the width.
    ExceedsPad,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Number {
    field: Field,
    min: usize,
    max: usize,
    sign: Sign,
    /// Two digits from the year 2000 on.
    reduced: bool,
    /// Digits to leave to the numbers of fixed width that follow without anything between.
    reserved: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    Short,
    Full,
    Narrow,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Literal(String),
    Number(Number),
    Text(Field, Width),
    Optional(Vec<Node>),
}

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Formatter {
    nodes: Vec<Node>,
}

/// The nodes of a section, and which number may still give digits to numbers that follow.
#[derive(Default)]
struct Section {
    nodes: Vec<Node>,
    active: Option<usize>,
}

impl Section {
    fn push(&mut self, node: Node) {
        self.nodes.push(node);
        self.active = None;
    }

    fn literal(&mut self, c: char) {
        self.active = None;
        match self.nodes.last_mut() {
            Some(Node::Literal(text)) => text.push(c),
            _ => self.nodes.push(Node::Literal(c.to_string())),
        }
    }

    /// Adjacent numbers: those of fixed width have their digits reserved by the first one.
    fn number(&mut self, number: Number) {
        let fixed = number.min == number.max && number.sign == Sign::NotNegative;
        if let Some(Node::Number(first)) = self.active.and_then(|at| self.nodes.get_mut(at))
            && fixed
        {
            first.reserved += number.max;
            self.nodes.push(Node::Number(number));
            return;
        }
        self.active = Some(self.nodes.len());
        self.nodes.push(Node::Number(number));
    }
}

impl Formatter {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn compile(pattern: &str) -> Result<Self, String> {
        let mut sections = vec![Section::default()];
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            let Some(section) = sections.last_mut() else { break };
            match c {
                'a'..='z' | 'A'..='Z' => {
                    let mut count = 1;
                    while chars.next_if_eq(&c).is_some() {
                        count += 1;
                    }
                    field(section, c, count)?;
                }
                '\'' => quoted(section, &mut chars).ok_or_else(|| format!("Pattern ends with an incomplete string literal: {pattern}"))?,
                '[' => sections.push(Section::default()),
                ']' => {
                    let Some(done) = sections.pop().filter(|_| !sections.is_empty()) else {
                        return Err("Pattern invalid as it contains ] without previous [".into());
                    };
                    if let Some(outer) = sections.last_mut() {
                        outer.push(Node::Optional(done.nodes));
                    }
                }
                '{' | '}' | '#' => return Err(format!("Pattern includes reserved character: '{c}'")),
                c => section.literal(c),
            }
        }
        // What is still open ends with the pattern.
        while sections.len() > 1 {
            if let (Some(done), Some(outer)) = (sections.pop(), sections.last_mut()) {
                outer.push(Node::Optional(done.nodes));
            }
        }
        Ok(Self { nodes: sections.pop().unwrap_or_default().nodes })
    }
}

/// A text in quotes; two quotes are one. `None` if it does not end.
fn quoted(section: &mut Section, chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<()> {
    if chars.next_if_eq(&'\'').is_some() {
        section.literal('\'');
        return Some(());
    }
    loop {
        match chars.next()? {
            '\'' if chars.next_if_eq(&'\'').is_none() => return Some(()),
            c => section.literal(c),
        }
    }
}

/// A run of `count` equal letters.
fn field(section: &mut Section, letter: char, count: usize) -> Result<(), String> {
    use Field::*;
    let too_many = || format!("Too many pattern letters: {letter}");
    let number = |field: Field, min: usize, max: usize, sign: Sign| Number { field, min, max, sign, reduced: false, reserved: 0 };
    // One letter: any width; two: exactly two digits.
    let upto_two = |field: Field| match count {
        1 => Ok(number(field, 1, 19, Sign::Normal)),
        2 => Ok(number(field, 2, 2, Sign::NotNegative)),
        _ => Err(too_many()),
    };
    let text = |field: Field| match count {
        1..=3 => Ok(Node::Text(field, Width::Short)),
        4 => Ok(Node::Text(field, Width::Full)),
        5 => Ok(Node::Text(field, Width::Narrow)),
        _ => Err(too_many()),
    };
    match letter {
        'u' | 'y' | 'Y' => section.number(year(letter, count)),
        'M' | 'L' | 'Q' | 'q' => {
            let field = if matches!(letter, 'M' | 'L') { Month } else { Quarter };
            if count <= 2 { section.number(upto_two(field)?) } else { section.push(text(field)?) }
        }
        'e' | 'c' => {
            if count <= 2 {
                section.number(upto_two(LocalWeekday)?)
            } else {
                section.push(text(Weekday)?)
            }
        }
        'd' => section.number(upto_two(Day)?),
        'H' => section.number(upto_two(Hour)?),
        'k' => section.number(upto_two(ClockHour)?),
        'K' => section.number(upto_two(HourOfAmPm)?),
        'h' => section.number(upto_two(ClockHourOfAmPm)?),
        'm' => section.number(upto_two(Minute)?),
        's' => section.number(upto_two(Second)?),
        'w' => section.number(upto_two(WeekOfYear)?),
        'W' | 'F' => {
            if count > 1 {
                return Err(too_many());
            }
            section.number(number(if letter == 'W' { WeekOfMonth } else { DayOfWeekInMonth }, 1, 19, Sign::Normal));
        }
        'D' => section.number(match count {
            1 => number(DayOfYear, 1, 19, Sign::Normal),
            2 | 3 => number(DayOfYear, count, 3, Sign::NotNegative),
            _ => return Err(too_many()),
        }),
        'S' if count <= 9 => section.number(number(Fraction, count, count, Sign::NotNegative)),
        'S' => return Err("Maximum width must be from 1 to 9 inclusive".into()),
        'n' => section.number(number(Nano, count, 19, Sign::NotNegative)),
        'A' => section.number(number(MilliOfDay, count, 19, Sign::NotNegative)),
        'N' => section.number(number(NanoOfDay, count, 19, Sign::NotNegative)),
        'G' => section.push(text(Era)?),
        'E' => section.push(text(Weekday)?),
        'a' if count == 1 => section.push(Node::Text(AmPm, Width::Short)),
        'a' => return Err(too_many()),
        'V' | 'v' | 'O' | 'z' | 'Z' | 'X' | 'x' => section.push(offset(letter, count)?),
        'p' | 'g' | 'B' => return Err(format!("the pattern letter '{letter}' is not supported")),
        _ => return Err(format!("Unknown pattern letter: {letter}")),
    }
    Ok(())
}

fn year(letter: char, count: usize) -> Number {
    let field = match letter {
        'u' => Field::Year,
        'y' => Field::YearOfEra,
        _ => Field::WeekYear,
    };
    let number = |max: usize, sign: Sign| Number { field, min: count, max, sign, reduced: count == 2, reserved: 0 };
    match count {
        2 => number(2, Sign::NotNegative),
        1 | 3 => number(19, Sign::Normal),
        _ => number(19, Sign::ExceedsPad),
    }
}

fn offset(letter: char, count: usize) -> Result<Node, String> {
    let fits = match letter {
        'V' => count == 2,
        'v' | 'O' => matches!(count, 1 | 4),
        'z' => count <= 4,
        _ => count <= 5,
    };
    if fits {
        Ok(Node::Text(Field::Offset(letter, count), Width::Short))
    } else {
        Err(format!("Wrong number of pattern letters: {letter}"))
    }
}
