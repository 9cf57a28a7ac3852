//! Flink's logical types and their Arrow representation.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType as ArrowType, Field as ArrowField, Fields, IntervalUnit, TimeUnit};

/// The length of `STRING` and `BYTES` (Flink: `VarCharType.MAX_LENGTH`).
pub const MAX_LENGTH: u32 = i32::MAX as u32;

/// A type and whether it admits NULL. Flink's types are nullable unless declared `NOT NULL`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SqlType {
    pub kind: TypeKind,
    pub nullable: bool,
}

/// A named field of a ROW or column of a relation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    pub name: String,
    pub ty: SqlType,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TypeKind {
    /// The type of a bare `NULL`.
    Null,
    Boolean,
    TinyInt,
    SmallInt,
    Int,
    BigInt,
    Float,
    Double,
    /// Precision 1..=38, scale 0..=precision.
    Decimal(u8, u8),
    Char(u32),
    /// `STRING` is `VARCHAR(2147483647)`.
    VarChar(u32),
    Binary(u32),
    /// `BYTES` is `VARBINARY(2147483647)`.
    VarBinary(u32),
    Date,
    /// Precision 0..=9; kept in milliseconds as in Flink.
    Time(u8),
    /// Precision 0..=9; microseconds up to precision 6, else nanoseconds.
    Timestamp(u8),
    /// `TIMESTAMP(p) WITH LOCAL TIME ZONE`: an instant; units as for `Timestamp`.
    TimestampLtz(u8),
    /// Months.
    IntervalYearMonth,
    /// Milliseconds.
    IntervalDayTime,
    Array(Box<SqlType>),
    Map(Box<SqlType>, Box<SqlType>),
    /// A bag: element to count.
    Multiset(Box<SqlType>),
    Row(Vec<Field>),
    /// A semi-structured value, kept as JSON text with type marks (`PARSE_JSON`).
    Variant,
}

impl TypeKind {
    pub const STRING: TypeKind = TypeKind::VarChar(MAX_LENGTH);
    pub const BYTES: TypeKind = TypeKind::VarBinary(MAX_LENGTH);

    pub fn nullable(self) -> SqlType {
        SqlType { kind: self, nullable: true }
    }

    pub fn not_null(self) -> SqlType {
        SqlType { kind: self, nullable: false }
    }

    pub fn with_nullable(self, nullable: bool) -> SqlType {
        SqlType { kind: self, nullable }
    }

    pub fn is_integer(&self) -> bool {
        matches!(self, Self::TinyInt | Self::SmallInt | Self::Int | Self::BigInt)
    }

    pub fn is_exact_numeric(&self) -> bool {
        self.is_integer() || matches!(self, Self::Decimal(..))
    }

    pub fn is_approximate_numeric(&self) -> bool {
        matches!(self, Self::Float | Self::Double)
    }

    pub fn is_numeric(&self) -> bool {
        self.is_exact_numeric() || self.is_approximate_numeric()
    }

    pub fn is_character(&self) -> bool {
        matches!(self, Self::Char(_) | Self::VarChar(_))
    }

    pub fn is_binary(&self) -> bool {
        matches!(self, Self::Binary(_) | Self::VarBinary(_))
    }

    pub fn is_timestamp(&self) -> bool {
        matches!(self, Self::Timestamp(_) | Self::TimestampLtz(_))
    }

    pub fn is_datetime(&self) -> bool {
        self.is_timestamp() || matches!(self, Self::Date | Self::Time(_))
    }

    pub fn is_interval(&self) -> bool {
        matches!(self, Self::IntervalYearMonth | Self::IntervalDayTime)
    }

    /// The unit in which a TIMESTAMP of this precision is kept.
    pub fn timestamp_unit(precision: u8) -> TimeUnit {
        if precision <= 6 { TimeUnit::Microsecond } else { TimeUnit::Nanosecond }
    }

    /// How the type is kept in Arrow columns.
    pub fn to_arrow(&self) -> ArrowType {
        let utc = || Some(Arc::from("UTC"));
        match self {
            Self::Null => ArrowType::Null,
            Self::Boolean => ArrowType::Boolean,
            Self::TinyInt => ArrowType::Int8,
            Self::SmallInt => ArrowType::Int16,
            Self::Int => ArrowType::Int32,
            Self::BigInt => ArrowType::Int64,
            Self::Float => ArrowType::Float32,
            Self::Double => ArrowType::Float64,
            Self::Decimal(p, s) => ArrowType::Decimal128(*p, *s as i8),
            Self::Char(_) | Self::VarChar(_) | Self::Variant => ArrowType::Utf8,
            Self::Binary(_) | Self::VarBinary(_) => ArrowType::Binary,
            Self::Date => ArrowType::Date32,
            Self::Time(_) => ArrowType::Time32(TimeUnit::Millisecond),
            Self::Timestamp(p) => ArrowType::Timestamp(Self::timestamp_unit(*p), None),
            Self::TimestampLtz(p) => ArrowType::Timestamp(Self::timestamp_unit(*p), utc()),
            Self::IntervalYearMonth => ArrowType::Interval(IntervalUnit::YearMonth),
            Self::IntervalDayTime => ArrowType::Duration(TimeUnit::Millisecond),
            Self::Array(e) => ArrowType::List(Arc::new(ArrowField::new("item", e.to_arrow(), true))),
            Self::Map(k, v) => map_type(k.to_arrow(), v.to_arrow()),
            Self::Multiset(e) => map_type(e.to_arrow(), ArrowType::Int32),
            Self::Row(fields) => ArrowType::Struct(row_fields(fields)),
        }
    }
}

/// Arrow fields of a ROW. All are nullable: NOT NULL is a promise of the plan, not of the buffers.
pub fn row_fields(fields: &[Field]) -> Fields {
    fields.iter().map(|f| ArrowField::new(&f.name, f.ty.to_arrow(), true)).collect()
}

fn map_type(key: ArrowType, value: ArrowType) -> ArrowType {
    // Arrow insists that the key field is not nullable. Flink has NULL keys: see `datum::map_array`.
    let entries = Fields::from(vec![ArrowField::new("keys", key, false), ArrowField::new("values", value, true)]);
    ArrowType::Map(Arc::new(ArrowField::new("entries", ArrowType::Struct(entries), false)), false)
}

impl SqlType {
    pub fn to_arrow(&self) -> ArrowType {
        self.kind.to_arrow()
    }

    pub fn as_nullable(&self) -> SqlType {
        self.kind.clone().nullable()
    }

    pub fn as_not_null(&self) -> SqlType {
        self.kind.clone().not_null()
    }

    pub fn with_nullable(&self, nullable: bool) -> SqlType {
        self.kind.clone().with_nullable(nullable)
    }
}

impl Field {
    pub fn new(name: impl Into<String>, ty: SqlType) -> Self {
        Self { name: name.into(), ty }
    }
}

/// Flink's `asSummaryString`: `VARCHAR(10) NOT NULL`, `ROW<`a` INT>`.
impl fmt::Display for SqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if !self.nullable && self.kind != TypeKind::Null {
            f.write_str(" NOT NULL")?;
        }
        Ok(())
    }
}

impl fmt::Display for TypeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Boolean => f.write_str("BOOLEAN"),
            Self::TinyInt => f.write_str("TINYINT"),
            Self::SmallInt => f.write_str("SMALLINT"),
            Self::Int => f.write_str("INT"),
            Self::BigInt => f.write_str("BIGINT"),
            Self::Float => f.write_str("FLOAT"),
            Self::Double => f.write_str("DOUBLE"),
            Self::Decimal(p, s) => write!(f, "DECIMAL({p}, {s})"),
            Self::Char(n) => write!(f, "CHAR({n})"),
            Self::VarChar(MAX_LENGTH) => f.write_str("STRING"),
            Self::VarChar(n) => write!(f, "VARCHAR({n})"),
            Self::Binary(n) => write!(f, "BINARY({n})"),
            Self::VarBinary(MAX_LENGTH) => f.write_str("BYTES"),
            Self::VarBinary(n) => write!(f, "VARBINARY({n})"),
            Self::Date => f.write_str("DATE"),
            Self::Time(p) => write!(f, "TIME({p})"),
            Self::Timestamp(p) => write!(f, "TIMESTAMP({p})"),
            Self::TimestampLtz(p) => write!(f, "TIMESTAMP_LTZ({p})"),
            Self::IntervalYearMonth => f.write_str("INTERVAL YEAR TO MONTH"),
            Self::IntervalDayTime => f.write_str("INTERVAL DAY TO SECOND(3)"),
            Self::Array(e) => write!(f, "ARRAY<{e}>"),
            Self::Map(k, v) => write!(f, "MAP<{k}, {v}>"),
            Self::Multiset(e) => write!(f, "MULTISET<{e}>"),
            Self::Row(fields) => {
                f.write_str("ROW<")?;
                for (i, field) in fields.iter().enumerate() {
                    if i > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "`{}` {}", field.name.replace('`', "``"), field.ty)?;
                }
                f.write_str(">")
            }
            Self::Variant => f.write_str("VARIANT"),
        }
    }
}
