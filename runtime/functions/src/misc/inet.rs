//! INET_ATON and INET_NTOA: IPv4 addresses as numbers, with MySQL's short forms (Flink: `InetAtonFunction`, `InetNtoaFunction`).

use std::fmt::Write;

use arrow::array::ArrayRef;
use sluice_batch::{Result, TypeKind};

use crate::Declaration;
use crate::kernel::{Args, P};

pub(crate) const FUNCTIONS: &[Declaration] = &[
    Declaration { names: &["INET_ATON"], bind: |c| c.nullable("INET_ATON", &[P::Str], TypeKind::BigInt, aton) },
    Declaration { names: &["INET_NTOA"], bind: |c| c.nullable("INET_NTOA", &[P::BigInt], TypeKind::STRING, ntoa) },
];

/// One to four decimal parts of at most 255; the last one stands for the last byte: `127.1` is `127.0.0.1`.
fn address(text: &str) -> Option<i64> {
    let parts: Vec<i64> = text.split('.').map(part).collect::<Option<_>>()?;
    let (last, first) = parts.split_last()?;
    if first.len() > 3 {
        return None;
    }
    Some(first.iter().enumerate().fold(*last, |sum, (i, part)| sum + (part << (24 - 8 * i))))
}

fn part(text: &str) -> Option<i64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|v| *v <= 255)
}

fn aton(args: &Args<'_>) -> Result<ArrayRef> {
    let text = args.str(0)?;
    args.i64s(|row| address(text.get(row)?))
}

fn ntoa(args: &Args<'_>) -> Result<ArrayRef> {
    let number = args.i64(0)?;
    args.strings(|row, out| {
        let v = number.get(row).and_then(|v| u32::try_from(v).ok())?;
        // Writing to a string cannot fail.
        let _ = write!(out, "{}.{}.{}.{}", v >> 24, v >> 16 & 255, v >> 8 & 255, v & 255);
        Some(())
    })
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn addresses_are_read_as_mysql_does() {
        for (text, expected) in [
            ("127.0.0.1", Some(2_130_706_433)),
            ("127.0.1", Some(2_130_706_433)),
            ("192.168.1", Some(3_232_235_521)),
            ("1.2", Some(16_777_218)),
            ("1", Some(1)),
            ("010.000.000.001", Some(167_772_161)),
            ("255.255.255.255", Some(4_294_967_295)),
            ("4294967295", None),
            ("256.0.0.1", None),
            ("1.2.3.", None),
            (".1.2.3", None),
            (" 127.0.0.1", None),
            ("1.2.3.4.5", None),
            ("", None),
        ] {
            assert_eq!(address(text), expected, "{text}");
        }
    }
}
