//! MD5, SHA1, SHA224 … SHA512, SHA2: hexadecimal digests of UTF-8 text, in lower case.

use arrow::array::ArrayRef;
use md5::{Digest, Md5};
use sha1::Sha1;
use sha2::{Sha224, Sha256, Sha384, Sha512};
use sluice_batch::{Expr, Result, TypeKind};

use crate::kernel::{Args, Body, P};
use crate::{Call, Declaration};

pub(crate) const FUNCTIONS: &[Declaration] = &[
    Declaration { names: &["MD5"], bind: |c| bind(c, "MD5", 32, digest::<Md5>) },
    Declaration { names: &["SHA1"], bind: |c| bind(c, "SHA1", 40, digest::<Sha1>) },
    Declaration { names: &["SHA224"], bind: |c| bind(c, "SHA224", 56, digest::<Sha224>) },
    Declaration { names: &["SHA256"], bind: |c| bind(c, "SHA256", 64, digest::<Sha256>) },
    Declaration { names: &["SHA384"], bind: |c| bind(c, "SHA384", 96, digest::<Sha384>) },
    Declaration { names: &["SHA512"], bind: |c| bind(c, "SHA512", 128, digest::<Sha512>) },
    Declaration { names: &["SHA2"], bind: |c| c.nullable("SHA2", &[P::Str, P::Int], TypeKind::VarChar(128), sha2) },
];

/// The result is CHAR of the digest's length.
fn bind(call: Call<'_>, name: &'static str, length: u32, body: Body) -> Result<Expr> {
    call.strict(name, &[P::Str], TypeKind::Char(length), body)
}

fn digest<D: Digest>(args: &Args<'_>) -> Result<ArrayRef> {
    let text = args.str(0)?;
    args.map_str(|row| Some(hex::encode(D::digest(text.get(row)?.as_bytes()))))
}

/// `SHA2(text, bits)`, bits of 224, 256, 384 or 512; NULL for others.
fn sha2(args: &Args<'_>) -> Result<ArrayRef> {
    let (text, bits) = (args.str(0)?, args.i32(1)?);
    args.map_str(|row| {
        let text = text.get(row)?.as_bytes();
        Some(match bits.get(row)? {
            224 => hex::encode(Sha224::digest(text)),
            256 => hex::encode(Sha256::digest(text)),
            384 => hex::encode(Sha384::digest(text)),
            512 => hex::encode(Sha512::digest(text)),
            _ => return None,
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use sluice_batch::{Datum, TypeKind};

    use crate::testing::{eval, lit, s};

    #[test]
    fn digests_are_the_known_ones() {
        for (name, start) in [
            ("MD5", "098f6bcd4621d373cade4e832627b4f6"),
            ("SHA1", "a94a8fe5ccb19ba61c4c0873d391e987982fbbd3"),
            ("SHA224", "90a3ed9e32b2aaf4c61c410eb925426119e1a9dc53d4286ade99a809"),
            ("SHA256", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"),
            ("SHA384", "768412320f7b0aa5812fce428dc4706b3cae50e02a64caa1"),
            ("SHA512", "ee26b0dd4af7e749aa1a8ee3c10ae9923f618980772e473f"),
        ] {
            let (digest, ty) = eval(name, vec![lit(s("test"))]).unwrap();
            let digest = digest.as_str().unwrap().to_owned();
            assert!(digest.starts_with(start), "{name}: {digest}");
            assert_eq!(ty.kind, TypeKind::Char(digest.len() as u32));
        }
        let sha2 = |bits| eval("SHA2", vec![lit(s("test")), lit(Datum::Int(bits))]).unwrap().0;
        assert_eq!(sha2(256), eval("SHA256", vec![lit(s("test"))]).unwrap().0);
        assert_eq!(sha2(7), Datum::Null);
    }
}
