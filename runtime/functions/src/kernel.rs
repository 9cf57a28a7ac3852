//! What makes one function a few lines: typed access to arguments, builders of results, checks of argument types.
//!
//! ```text
//! Declaration { names: &["ASCII"], bind: |c| c.strict(&[P::Str], |_| TypeKind::Int, |a| { let s = a.str(0)?; a.i32s(|row| …) }) }
//! ```

use std::fmt;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayAccessor, ArrayRef, ArrowPrimitiveType, BinaryArray, BinaryBuilder, BooleanArray, Date32Array, Decimal128Array,
    Float64Array, Int32Array, Int64Array, PrimitiveArray, StringArray, StringBuilder,
};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type};
use sluice_batch::{Datum, Error, EvalContext, Expr, Result, ScalarFunction, SqlType, TypeKind, Value, datum};

use crate::Call;

/// The body of a function: from arguments to a column of `Args::len` values.
pub type Body = fn(&Args<'_>) -> Result<ArrayRef>;

/// A function made of its body. The usual way to implement [`ScalarFunction`].
pub struct Kernel {
    pub name: &'static str,
    pub body: Body,
    pub deterministic: bool,
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl ScalarFunction for Kernel {
    fn name(&self) -> &str {
        self.name
    }

    fn eval(&self, args: &[Value], rows: usize, ty: &SqlType, cx: &EvalContext) -> Result<Value> {
        eval_body(self.body, args, rows, ty, cx, self.deterministic)
    }

    fn deterministic(&self) -> bool {
        self.deterministic
    }
}

fn eval_body(body: Body, args: &[Value], rows: usize, ty: &SqlType, cx: &EvalContext, constant: bool) -> Result<Value> {
    let args = Args::new(args, rows, ty, cx, constant);
    let out = body(&args)?;
    Ok(if args.scalar { Value::Scalar(out) } else { Value::Array(out) })
}

/// The arguments of one evaluation.
pub struct Args<'a> {
    pub values: &'a [Value],
    pub ty: &'a SqlType,
    pub cx: &'a EvalContext,
    len: usize,
    scalar: bool,
}

impl<'a> Args<'a> {
    /// `constant`: equal arguments give equal results, so that scalar arguments give a scalar.
    pub fn new(values: &'a [Value], rows: usize, ty: &'a SqlType, cx: &'a EvalContext, constant: bool) -> Self {
        let scalar = constant && values.iter().all(Value::is_scalar);
        Self { values, ty, cx, len: if scalar { 1 } else { rows }, scalar }
    }

    /// How many values the result has: one if all arguments are scalars.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the result stands for every row.
    pub fn is_scalar(&self) -> bool {
        self.scalar
    }

    pub fn count(&self) -> usize {
        self.values.len()
    }

    pub fn has(&self, index: usize) -> bool {
        index < self.values.len()
    }

    /// An argument as a typed column.
    ///
    /// # Errors
    /// If it is of another Arrow type: a defect of the binder.
    pub fn column<A: Array + 'static>(&self, index: usize) -> Result<Column<'a, A>> {
        let value = self.values.get(index).ok_or_else(|| Error::runtime(format!("argument {} is missing", index + 1)))?;
        Column::new(value)
    }

    pub fn str(&self, index: usize) -> Result<Column<'a, StringArray>> {
        self.column(index)
    }

    pub fn binary(&self, index: usize) -> Result<Column<'a, BinaryArray>> {
        self.column(index)
    }

    pub fn boolean(&self, index: usize) -> Result<Column<'a, BooleanArray>> {
        self.column(index)
    }

    pub fn i32(&self, index: usize) -> Result<Column<'a, Int32Array>> {
        self.column(index)
    }

    pub fn i64(&self, index: usize) -> Result<Column<'a, Int64Array>> {
        self.column(index)
    }

    pub fn f64(&self, index: usize) -> Result<Column<'a, Float64Array>> {
        self.column(index)
    }

    pub fn decimal(&self, index: usize) -> Result<Column<'a, Decimal128Array>> {
        self.column(index)
    }

    pub fn date(&self, index: usize) -> Result<Column<'a, Date32Array>> {
        self.column(index)
    }

    /// An argument that is one value for all rows (a literal or constant); `None` if it varies.
    pub fn constant(&self, index: usize, ty: &SqlType) -> Option<Datum> {
        match self.values.get(index)? {
            Value::Scalar(a) => Some(datum::from_array(a.as_ref(), 0, ty)),
            Value::Array(_) => None,
        }
    }

    /// A string column, each value written into a buffer that is cleared before; `None` is NULL.
    pub fn strings(&self, mut write: impl FnMut(usize, &mut String) -> Option<()>) -> Result<ArrayRef> {
        self.try_strings(|row, out| Ok(write(row, out)))
    }

    /// [`Args::strings`] that may fail.
    pub fn try_strings(&self, mut write: impl FnMut(usize, &mut String) -> Result<Option<()>>) -> Result<ArrayRef> {
        let mut builder = StringBuilder::with_capacity(self.len, self.len * 16);
        let mut buffer = String::new();
        for row in 0..self.len {
            buffer.clear();
            let written = write(row, &mut buffer)?;
            if builder.values_slice().len() + buffer.len() > i32::MAX as usize {
                return Err(Error::runtime("the texts of a batch have more than 2 GiB"));
            }
            builder.append_option(written.map(|()| buffer.as_str()));
        }
        Ok(Arc::new(builder.finish()))
    }

    /// A string column of values that exist already, e.g. slices of an argument.
    pub fn map_str<S: AsRef<str>>(&self, mut f: impl FnMut(usize) -> Option<S>) -> Result<ArrayRef> {
        let mut builder = StringBuilder::with_capacity(self.len, self.len * 16);
        for row in 0..self.len {
            builder.append_option(f(row));
        }
        Ok(Arc::new(builder.finish()))
    }

    pub fn map_binary<B: AsRef<[u8]>>(&self, mut f: impl FnMut(usize) -> Option<B>) -> Result<ArrayRef> {
        let mut builder = BinaryBuilder::with_capacity(self.len, self.len * 16);
        for row in 0..self.len {
            builder.append_option(f(row));
        }
        Ok(Arc::new(builder.finish()))
    }

    /// A column of a primitive type; takes on the Arrow type of `ty` (time zone, decimal precision).
    pub fn primitives<T: ArrowPrimitiveType>(&self, f: impl FnMut(usize) -> Option<T::Native>) -> Result<ArrayRef> {
        let out: PrimitiveArray<T> = (0..self.len).map(f).collect();
        self.typed(out)
    }

    /// [`Args::primitives`] that may fail.
    pub fn try_primitives<T: ArrowPrimitiveType>(&self, f: impl FnMut(usize) -> Result<Option<T::Native>>) -> Result<ArrayRef> {
        let out: PrimitiveArray<T> = (0..self.len).map(f).collect::<Result<_>>()?;
        self.typed(out)
    }

    fn typed<T: ArrowPrimitiveType>(&self, out: PrimitiveArray<T>) -> Result<ArrayRef> {
        let arrow = self.ty.to_arrow();
        if *out.data_type() == arrow {
            return Ok(Arc::new(out));
        }
        Ok(arrow::array::make_array(out.into_data().into_builder().data_type(arrow).build()?))
    }

    pub fn i32s(&self, f: impl FnMut(usize) -> Option<i32>) -> Result<ArrayRef> {
        self.primitives::<Int32Type>(f)
    }

    pub fn i64s(&self, f: impl FnMut(usize) -> Option<i64>) -> Result<ArrayRef> {
        self.primitives::<Int64Type>(f)
    }

    pub fn f64s(&self, f: impl FnMut(usize) -> Option<f64>) -> Result<ArrayRef> {
        self.primitives::<Float64Type>(f)
    }

    pub fn booleans(&self, f: impl FnMut(usize) -> Option<bool>) -> Result<ArrayRef> {
        Ok(Arc::new((0..self.len).map(f).collect::<BooleanArray>()))
    }

    /// A column of any type from values: for functions over nested types that are not on a hot path.
    pub fn datums(&self, mut f: impl FnMut(usize) -> Result<Datum>) -> Result<ArrayRef> {
        let mut builder = datum::DatumBuilder::new(self.ty);
        for row in 0..self.len {
            builder.push(&f(row)?)?;
        }
        builder.finish()
    }
}

/// A typed argument: a column, or one value for every row.
#[derive(Debug)]
pub struct Column<'a, A> {
    array: &'a A,
    scalar: bool,
}

impl<A> Clone for Column<'_, A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A> Copy for Column<'_, A> {}

impl<'a, A: Array + 'static> Column<'a, A> {
    pub fn new(value: &'a Value) -> Result<Self> {
        let array = value.array();
        let typed = array.as_any().downcast_ref::<A>();
        let array = typed.ok_or_else(|| Error::runtime(format!("unexpected argument of Arrow type {}", array.data_type())))?;
        Ok(Self { array, scalar: value.is_scalar() })
    }

    pub fn array(&self) -> &'a A {
        self.array
    }

    pub fn is_scalar(&self) -> bool {
        self.scalar
    }

    #[inline]
    pub fn is_null(&self, row: usize) -> bool {
        self.array.is_null(if self.scalar { 0 } else { row })
    }

    /// The value of a row; `None` is NULL.
    #[inline]
    pub fn get(&self, row: usize) -> Option<<&'a A as ArrayAccessor>::Item>
    where
        &'a A: ArrayAccessor,
    {
        let row = if self.scalar { 0 } else { row };
        self.array.is_valid(row).then(|| self.array.value(row))
    }
}

/// What a parameter takes. An argument of another type is cast where Calcite's type coercion does so, else refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum P {
    /// CHAR/VARCHAR; other atomic values are cast to STRING.
    Str,
    /// CHAR/VARCHAR only: Flink's newer functions cast nothing.
    Chars,
    /// BINARY/VARBINARY.
    Binary,
    /// CHAR/VARCHAR or BINARY/VARBINARY, as it is.
    StrOrBinary,
    Bool,
    /// Any integer, cast to INT.
    Int,
    /// Any integer, cast to BIGINT.
    BigInt,
    /// Any number (or string), cast to DOUBLE.
    Double,
    /// Any number, as it is.
    Numeric,
    Date,
    /// TIMESTAMP or TIMESTAMP_LTZ, as it is.
    Timestamp,
    Array,
    Map,
    /// Anything, as it is.
    Any,
}

impl P {
    fn name(self) -> &'static str {
        match self {
            P::Str | P::Chars => "<CHARACTER>",
            P::Binary => "<BINARY>",
            P::StrOrBinary => "<CHARACTER or BINARY>",
            P::Bool => "<BOOLEAN>",
            P::Int | P::BigInt => "<INTEGER>",
            P::Double | P::Numeric => "<NUMERIC>",
            P::Date => "<DATE>",
            P::Timestamp => "<TIMESTAMP>",
            P::Array => "<ARRAY>",
            P::Map => "<MAP>",
            P::Any => "<ANY>",
        }
    }

    /// The type to which the argument is brought; `None` if it does not fit.
    fn target(self, from: &TypeKind) -> Option<TypeKind> {
        let same = |fits: bool| fits.then(|| from.clone());
        match self {
            P::Str if from.is_character() => Some(from.clone()),
            P::Str => (is_atomic(from) && !from.is_binary()).then_some(TypeKind::STRING),
            P::Chars if *from == TypeKind::Null => Some(TypeKind::STRING),
            P::Chars => same(from.is_character()),
            P::Binary if *from == TypeKind::Null => Some(TypeKind::BYTES),
            P::Binary => same(from.is_binary()),
            P::StrOrBinary if *from == TypeKind::Null => Some(TypeKind::STRING),
            P::StrOrBinary => same(from.is_character() || from.is_binary()),
            P::Bool => matches!(from, TypeKind::Boolean | TypeKind::Null).then_some(TypeKind::Boolean),
            P::Int => (from.is_integer() || *from == TypeKind::Null).then_some(TypeKind::Int),
            P::BigInt => (from.is_integer() || *from == TypeKind::Null).then_some(TypeKind::BigInt),
            P::Double => (from.is_numeric() || from.is_character() || *from == TypeKind::Null).then_some(TypeKind::Double),
            P::Numeric if *from == TypeKind::Null => Some(TypeKind::Int),
            P::Numeric => same(from.is_numeric()),
            P::Date => matches!(from, TypeKind::Date | TypeKind::Null).then_some(TypeKind::Date),
            P::Timestamp if *from == TypeKind::Null => Some(TypeKind::Timestamp(3)),
            P::Timestamp => same(from.is_timestamp()),
            P::Array => same(matches!(from, TypeKind::Array(_))),
            P::Map => same(matches!(from, TypeKind::Map(..))),
            P::Any => Some(from.clone()),
        }
    }
}

fn is_atomic(kind: &TypeKind) -> bool {
    !matches!(kind, TypeKind::Array(_) | TypeKind::Map(..) | TypeKind::Multiset(_) | TypeKind::Row(_) | TypeKind::Variant)
}

impl Call<'_> {
    pub fn arg_type(&self, index: usize) -> Option<&SqlType> {
        self.args.get(index).map(|a| &a.ty)
    }

    /// The keyword at this position (`EXTRACT(YEAR …)`), upper case.
    pub fn symbol(&self, index: usize) -> Option<&str> {
        self.symbols.get(index)?.as_deref()
    }

    /// Whether some argument may be NULL.
    pub fn any_nullable(&self) -> bool {
        self.args.iter().any(|a| a.ty.nullable)
    }

    /// "Cannot apply": the arguments do not fit. `form` is what would.
    pub fn invalid(&self, form: impl fmt::Display) -> Error {
        let mut types = String::new();
        for (i, a) in self.args.iter().enumerate() {
            types.push_str(if i > 0 { ", " } else { "" });
            types.push_str(&format!("<{}>", a.ty.kind));
        }
        let name = self.name.to_ascii_uppercase();
        Error::plan(format!("Cannot apply '{name}' to arguments of type '{name}({types})'. Supported form(s): {form}")).at(self.span)
    }

    /// The number of arguments is wrong.
    pub fn wrong_count(&self, expected: impl fmt::Display) -> Error {
        let name = self.name.to_ascii_uppercase();
        Error::plan(format!(
            "Invalid number of arguments to function '{name}'. Was expecting {expected} arguments, got {}",
            self.args.len()
        ))
        .at(self.span)
    }

    /// Checks the count and brings each argument to what its parameter takes. Parameters from `required` on may be missing.
    pub fn coerce(&mut self, params: &[P], required: usize) -> Result<()> {
        if self.args.len() < required || self.args.len() > params.len() {
            let range = if required == params.len() { required.to_string() } else { format!("{required} to {}", params.len()) };
            return Err(self.wrong_count(range));
        }
        for (i, param) in params.iter().enumerate().take(self.args.len()) {
            let Some(target) = param.target(&self.args[i].ty.kind) else {
                let form = params.iter().map(|p| p.name()).collect::<Vec<_>>().join(", ");
                return Err(self.invalid(format!("{}({form})", self.name.to_ascii_uppercase())));
            };
            self.cast_arg(i, target)?;
        }
        Ok(())
    }

    /// Brings one argument to a type; it stays nullable if it was.
    pub fn cast_arg(&mut self, index: usize, target: TypeKind) -> Result<()> {
        let Some(arg) = self.args.get_mut(index) else { return Ok(()) };
        if arg.ty.kind != target {
            let ty = target.with_nullable(arg.ty.nullable);
            let span = self.span;
            let input = std::mem::replace(arg, Expr::boolean(false));
            *arg = crate::coerce(input, &ty, span)?;
        }
        Ok(())
    }

    /// The call of a deterministic function over the arguments as they are.
    pub fn kernel(self, name: &'static str, ty: SqlType, body: Body) -> Expr {
        Expr::call(Arc::new(Kernel { name, body, deterministic: true }), self.args, ty)
    }

    /// [`Call::kernel`] for one whose results vary (`RAND`, `UUID`).
    pub fn volatile(self, name: &'static str, ty: SqlType, body: Body) -> Expr {
        Expr::call(Arc::new(Kernel { name, body, deterministic: false }), self.args, ty)
    }

    /// The usual function: all parameters required, NULL in gives NULL out.
    pub fn strict(mut self, name: &'static str, params: &[P], returns: TypeKind, body: Body) -> Result<Expr> {
        self.coerce(params, params.len())?;
        let ty = returns.with_nullable(self.any_nullable());
        Ok(self.kernel(name, ty, body))
    }

    /// As [`Call::strict`], for a function that may give NULL for any arguments.
    pub fn nullable(self, name: &'static str, params: &[P], returns: TypeKind, body: Body) -> Result<Expr> {
        let required = params.len();
        self.optional(name, params, required, returns, body)
    }

    /// As [`Call::nullable`]; parameters from `required` on may be missing.
    pub fn optional(mut self, name: &'static str, params: &[P], required: usize, returns: TypeKind, body: Body) -> Result<Expr> {
        self.coerce(params, required)?;
        Ok(self.kernel(name, returns.nullable(), body))
    }
}
