use super::*;
use TypeKind::*;

#[test]
fn numbers_have_exactly_their_bytes() {
    let cases: Vec<(TypeKind, Datum, &[u8])> = vec![
        (Boolean, Datum::Boolean(true), &[1]),
        (TinyInt, Datum::TinyInt(-1), &[0xFF]),
        (SmallInt, Datum::SmallInt(258), &[1, 2]),
        (Int, Datum::Int(1), &[0, 0, 0, 1]),
        (BigInt, Datum::BigInt(-2), &[255, 255, 255, 255, 255, 255, 255, 254]),
        (Float, Datum::Float(1.0), &[0x3F, 0x80, 0, 0]),
        (Double, Datum::Double(1.0), &[0x3F, 0xF0, 0, 0, 0, 0, 0, 0]),
        (TypeKind::STRING, Datum::string("é"), &[0xC3, 0xA9]),
        (TypeKind::BYTES, Datum::Bytes([0, 255].into()), &[0, 255]),
    ];
    for (kind, value, bytes) in cases {
        let columns = fields(&[("v", kind.clone())]);
        let types = [columns[0].ty.clone()];
        for endianness in ["big-endian", "little-endian"] {
            let given = &[("endianness", endianness)];
            let mut wire = bytes.to_vec();
            if kind.is_numeric() && endianness == "little-endian" {
                wire.reverse();
            }
            let mut decoder = new_decoder("raw", given, &columns);
            assert_eq!(decoder.decode(Some(&wire)).unwrap(), 1);
            assert_eq!(decoder.decode(None).unwrap(), 1);
            if kind.is_numeric() {
                assert!(decoder.decode(Some(&[0; 9])).is_err());
            }
            let read = rows(decoder.as_mut(), &types);
            assert_eq!(read[0].1, std::slice::from_ref(&value));
            assert_eq!(read[1].1, [Datum::Null]);
            let mut records = Records::default();
            new_encoder("raw", given, &columns).encode(&batch(&columns, &[vec![value.clone()], vec![Datum::Null]]), &mut records).unwrap();
            assert_eq!((records.get(0), records.get(1)), (Some(wire.as_slice()), None));
        }
    }
}

#[test]
fn charsets() {
    let columns = fields(&[("v", TypeKind::STRING)]);
    let types = [columns[0].ty.clone()];
    for (charset, text, bytes) in [
        ("ISO-8859-1", "é", vec![0xE9]),
        ("US-ASCII", "a", vec![b'a']),
        ("UTF-16BE", "é", vec![0, 0xE9]),
        ("UTF-16LE", "🍕", vec![0x3C, 0xD8, 0x55, 0xDF]),
        ("UTF-16", "a", vec![0xFE, 0xFF, 0, b'a']),
    ] {
        let mut decoder = new_decoder("raw", &[("charset", charset)], &columns);
        decoder.decode(Some(&bytes)).unwrap();
        assert_eq!(rows(decoder.as_mut(), &types)[0].1, [Datum::string(text)], "{charset}");
        let mut records = Records::default();
        new_encoder("raw", &[("charset", charset)], &columns).encode(&batch(&columns, &[vec![Datum::string(text)]]), &mut records).unwrap();
        assert_eq!(records.get(0), Some(bytes.as_slice()), "{charset}");
    }
    let two = Schema::new(fields(&[("a", Int), ("b", Int)]));
    assert!(decoder(options("raw", &[]), two, UTC).err().unwrap().to_string().contains("a single column"));
}
