//! Data types as in CREATE TABLE and CAST.

use sluice_batch::types::MAX_LENGTH;
use sluice_batch::{Error, Field, Result, Span, SqlType, TypeKind};

use super::Parser;
use super::interval::Unit;
use crate::keywords::closest;
use crate::lexer::TokenKind;

const TYPE_NAMES: &[&str] = &[
    "BOOLEAN",
    "TINYINT",
    "SMALLINT",
    "INT",
    "INTEGER",
    "BIGINT",
    "FLOAT",
    "REAL",
    "DOUBLE",
    "DECIMAL",
    "NUMERIC",
    "CHAR",
    "CHARACTER",
    "VARCHAR",
    "STRING",
    "BINARY",
    "VARBINARY",
    "BYTES",
    "DATE",
    "TIME",
    "TIMESTAMP",
    "TIMESTAMP_LTZ",
    "INTERVAL",
    "ARRAY",
    "MAP",
    "MULTISET",
    "ROW",
    "VARIANT",
];

impl Parser<'_> {
    /// A type with its nullability: `INT`, `ROW<a INT NOT NULL> ARRAY NOT NULL`.
    pub(super) fn sql_type(&mut self) -> Result<SqlType> {
        self.nested(|p| {
            let mut ty = p.type_name()?.nullable();
            for suffixes in 0.. {
                p.check_chain(suffixes * 10)?;
                if p.take_kws(&["NOT", "NULL"]) {
                    ty.nullable = false;
                } else if !p.is_word_at(1, "ON") && p.take_kw("NULL") {
                    // `RETURNING INT NULL ON EMPTY` of JSON_VALUE goes on with its own NULL.
                    ty.nullable = true;
                } else if p.take_kw("ARRAY") {
                    ty = TypeKind::Array(Box::new(ty)).nullable();
                } else if p.take_kw("MULTISET") {
                    ty = TypeKind::Multiset(Box::new(ty)).nullable();
                } else {
                    break;
                }
            }
            Ok(ty)
        })
    }

    fn type_name(&mut self) -> Result<TypeKind> {
        let span = self.span();
        let word = match self.kind() {
            TokenKind::Word => self.here().to_ascii_uppercase(),
            _ => return Err(self.expected("a data type")),
        };
        self.advance();
        let kind = match word.as_str() {
            "BOOLEAN" => TypeKind::Boolean,
            "TINYINT" => TypeKind::TinyInt,
            "SMALLINT" => TypeKind::SmallInt,
            "INT" | "INTEGER" => TypeKind::Int,
            "BIGINT" => TypeKind::BigInt,
            "FLOAT" | "REAL" => TypeKind::Float,
            "DOUBLE" => {
                self.take_kw("PRECISION");
                TypeKind::Double
            }
            "DECIMAL" | "DEC" | "NUMERIC" => self.decimal(span)?,
            "CHAR" | "CHARACTER" => match self.take_kw("VARYING") {
                true => TypeKind::VarChar(self.length(&word, MAX_LENGTH)?),
                false => TypeKind::Char(self.length(&word, 1)?),
            },
            // Without a length Flink takes the longest (`FlinkTypeSystem`), unlike the standard.
            "VARCHAR" => TypeKind::VarChar(self.length(&word, MAX_LENGTH)?),
            "STRING" => TypeKind::STRING,
            "BINARY" => match self.take_kw("VARYING") {
                true => TypeKind::VarBinary(self.length(&word, MAX_LENGTH)?),
                false => TypeKind::Binary(self.length(&word, 1)?),
            },
            "VARBINARY" => TypeKind::VarBinary(self.length(&word, MAX_LENGTH)?),
            "BYTES" => TypeKind::BYTES,
            "DATE" => TypeKind::Date,
            "TIME" => self.time(span)?,
            "TIMESTAMP" => self.timestamp(span)?,
            "TIMESTAMP_LTZ" => TypeKind::TimestampLtz(self.precision(&word, 6)?),
            "INTERVAL" => self.interval_type()?,
            "ARRAY" => TypeKind::Array(Box::new(self.type_argument()?)),
            "MULTISET" => TypeKind::Multiset(Box::new(self.type_argument()?)),
            "MAP" => {
                self.expect("<")?;
                let key = self.sql_type()?;
                self.expect(",")?;
                let value = self.sql_type()?;
                self.expect(">")?;
                TypeKind::Map(Box::new(key), Box::new(value))
            }
            "ROW" => self.row_type()?,
            "VARIANT" => TypeKind::Variant,
            "RAW" | "STRUCTURED" | "BITMAP" | "LEGACY" => self.unsupported_type(&word, span)?,
            _ => {
                let error = Error::plan(format!("unknown data type '{word}'")).at(span);
                return Err(match closest(&word, TYPE_NAMES.iter().copied()) {
                    Some(name) => error.hint(format!("did you mean {name}?")),
                    None => error,
                });
            }
        };
        Ok(kind)
    }

    /// Skips the arguments of a type that the engine lacks.
    fn unsupported_type(&mut self, word: &str, span: Span) -> Result<TypeKind> {
        self.lacks(format!("the type {word}"), span);
        if self.is("(") || self.is("<") {
            let (open, close) = if self.is("(") { ("(", ")") } else { ("<", ">") };
            let mut depth = 0usize;
            loop {
                if self.is(open) {
                    depth += 1;
                } else if self.is(close) {
                    depth -= 1;
                } else if self.at_statement_end() {
                    return Err(self.expected(&format!("'{close}'")));
                }
                self.advance();
                if depth == 0 {
                    break;
                }
            }
        }
        Ok(TypeKind::BYTES)
    }

    fn type_argument(&mut self) -> Result<SqlType> {
        self.expect("<")?;
        let ty = self.sql_type()?;
        self.expect(">")?;
        Ok(ty)
    }

    /// `(n)` with 1 ≤ n, else `default`.
    fn length(&mut self, name: &str, default: u32) -> Result<u32> {
        if !self.take("(") {
            return Ok(default);
        }
        let span = self.span();
        let n = self.unsigned("a length")?;
        self.expect(")")?;
        if n == 0 || n > MAX_LENGTH {
            return Err(Error::plan(format!("the length of {name} must be between 1 and {MAX_LENGTH}, but is {n}")).at(span));
        }
        Ok(n)
    }

    /// `(p)` with 0 ≤ p ≤ 9, else `default`.
    fn precision(&mut self, name: &str, default: u8) -> Result<u8> {
        if !self.take("(") {
            return Ok(default);
        }
        let span = self.span();
        let p = self.unsigned("a precision")?;
        self.expect(")")?;
        match u8::try_from(p) {
            Ok(p) if p <= 9 => Ok(p),
            _ => Err(Error::plan(format!("the precision of {name} must be between 0 and 9, but is {p}")).at(span)),
        }
    }

    fn decimal(&mut self, span: Span) -> Result<TypeKind> {
        let (mut precision, mut scale) = (10, 0);
        if self.take("(") {
            precision = self.unsigned("a precision")?;
            if self.take(",") {
                scale = self.unsigned("a scale")?;
            }
            self.expect(")")?;
        }
        match (u8::try_from(precision), u8::try_from(scale)) {
            (Ok(p), _) if !(1..=38).contains(&p) => {
                Err(Error::plan(format!("the precision of DECIMAL must be between 1 and 38, but is {p}")).at(span))
            }
            (Ok(p), Ok(s)) if s <= p => Ok(TypeKind::Decimal(p, s)),
            (Ok(p), _) => Err(Error::plan(format!("the scale of DECIMAL({p}, …) must be between 0 and {p}, but is {scale}")).at(span)),
            (Err(_), _) => Err(Error::plan(format!("the precision of DECIMAL must be between 1 and 38, but is {precision}")).at(span)),
        }
    }

    fn time(&mut self, span: Span) -> Result<TypeKind> {
        let p = self.precision("TIME", 0)?;
        if self.take_kws(&["WITHOUT", "TIME", "ZONE"]) {
            return Ok(TypeKind::Time(p));
        }
        if self.take_kws(&["WITH", "LOCAL", "TIME", "ZONE"]) || self.take_kws(&["WITH", "TIME", "ZONE"]) {
            self.lacks("TIME WITH TIME ZONE", span);
        }
        Ok(TypeKind::Time(p))
    }

    fn timestamp(&mut self, span: Span) -> Result<TypeKind> {
        let p = self.precision("TIMESTAMP", 6)?;
        if self.take_kws(&["WITH", "LOCAL", "TIME", "ZONE"]) {
            return Ok(TypeKind::TimestampLtz(p));
        }
        if self.take_kws(&["WITH", "TIME", "ZONE"]) {
            self.lacks("TIMESTAMP WITH TIME ZONE", span);
        }
        self.take_kws(&["WITHOUT", "TIME", "ZONE"]);
        Ok(TypeKind::Timestamp(p))
    }

    /// `INTERVAL DAY(2) TO SECOND(3)`: precisions do not matter, the value is in months or milliseconds.
    fn interval_type(&mut self) -> Result<TypeKind> {
        let (from, _) = self.interval_units()?;
        Ok(if matches!(from, Unit::Year | Unit::Quarter | Unit::Month) { TypeKind::IntervalYearMonth } else { TypeKind::IntervalDayTime })
    }

    /// `ROW<a INT, b STRING 'comment'>`, `ROW(a INT)`
    fn row_type(&mut self) -> Result<TypeKind> {
        if self.take("<>") {
            return Ok(TypeKind::Row(Vec::new()));
        }
        let close = if self.take("<") {
            ">"
        } else {
            self.expect("(")?;
            ")"
        };
        let mut fields: Vec<Field> = Vec::new();
        while !self.take(close) {
            if !fields.is_empty() {
                self.expect(",")?;
            }
            let name = self.ident("a field name")?;
            if fields.iter().any(|f| f.name == name.name) {
                return Err(Error::plan(format!("the ROW has two fields '{}'", name.name)).at(name.span));
            }
            let ty = self.sql_type()?;
            self.take_kw("COMMENT");
            if matches!(self.kind(), TokenKind::String(_)) {
                self.advance();
            }
            fields.push(Field::new(name.name, ty));
            if !self.is(",") && !self.is(close) {
                return Err(self.expected(&format!("',' or '{close}'")));
            }
        }
        Ok(TypeKind::Row(fields))
    }
}
