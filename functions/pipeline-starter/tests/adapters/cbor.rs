//! CBOR, in which CloudWatch's messages are written, as JSON: only what the messages of the tests contain.

use serde_json::{Map, Value};

/// The key of a JSON object that stands for a time, in seconds since 1970.
const TIME: &str = "$time";

/// Encodes a value.
pub fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(value, &mut bytes);
    bytes
}

fn write(value: &Value, bytes: &mut Vec<u8>) {
    match value {
        Value::Bool(value) => bytes.push(if *value { 0xf5 } else { 0xf4 }),
        Value::Number(number) => head(0, number.as_u64().unwrap(), bytes),
        Value::String(text) => {
            head(3, text.len() as u64, bytes);
            bytes.extend(text.as_bytes());
        }
        Value::Array(values) => {
            head(4, values.len() as u64, bytes);
            for value in values {
                write(value, bytes);
            }
        }
        Value::Object(fields) if fields.contains_key(TIME) => {
            head(6, 1, bytes);
            bytes.push(0xfb);
            bytes.extend(fields[TIME].as_f64().unwrap().to_be_bytes());
        }
        Value::Object(fields) => {
            head(5, fields.len() as u64, bytes);
            for (name, value) in fields {
                write(&Value::String(name.clone()), bytes);
                write(value, bytes);
            }
        }
        Value::Null => bytes.push(0xf6),
    }
}

fn head(major: u8, number: u64, bytes: &mut Vec<u8>) {
    match u8::try_from(number) {
        Ok(small) if small < 24 => bytes.push((major << 5) + small),
        _ => {
            bytes.push((major << 5) + 27);
            bytes.extend(number.to_be_bytes());
        }
    }
}

/// Decodes a value.
pub fn decode(bytes: &[u8]) -> Value {
    let mut rest = bytes;
    let value = read(&mut rest).unwrap();
    assert!(rest.is_empty(), "{} bytes are left over", rest.len());
    value
}

/// Reads a value, or `None` for the end of a list or map whose length is not given.
fn read(rest: &mut &[u8]) -> Option<Value> {
    let first = take(rest, 1)[0];
    let (major, minor) = (first >> 5, first & 0x1f);
    if first == 0xff {
        return None;
    }
    if major == 7 {
        return Some(match minor {
            20 | 21 => Value::Bool(minor == 21),
            27 => f64::from_be_bytes(take(rest, 8).try_into().unwrap()).into(),
            _ => panic!("byte {first:#x}"),
        });
    }
    let number = match minor {
        0..24 => Some(u64::from(minor)),
        24..28 => Some(take(rest, 1 << (minor - 24)).iter().fold(0, |sum, byte| sum * 256 + u64::from(*byte))),
        _ => None,
    };
    let mut items = std::iter::from_fn({
        let mut left = number;
        move || {
            if left == Some(0) {
                return None;
            }
            left = left.map(|left| left - 1);
            Some(())
        }
    });
    Some(match major {
        0 => number.unwrap().into(),
        3 => String::from_utf8(take(rest, usize::try_from(number.unwrap()).unwrap()).to_vec()).unwrap().into(),
        4 => std::iter::from_fn(|| items.next().and_then(|()| read(rest))).collect(),
        5 => {
            let mut fields = Map::new();
            while let Some(name) = items.next().and_then(|()| read(rest)) {
                fields.insert(name.as_str().unwrap().to_owned(), read(rest).unwrap());
            }
            Value::Object(fields)
        }
        6 => Value::Object([(TIME.to_owned(), read(rest).unwrap())].into_iter().collect()),
        _ => panic!("byte {first:#x}"),
    })
}

fn take<'b>(rest: &mut &'b [u8], count: usize) -> &'b [u8] {
    let (taken, after) = rest.split_at(count);
    *rest = after;
    taken
}
