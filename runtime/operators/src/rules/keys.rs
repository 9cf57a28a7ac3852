//! Grouping keys as text: `{payerId=25;beneficiaryId=12}`.

use arrow::array::{Array, StringArray};

/// The key of a row for people: names in the rule's order, values as they are. `columns`: each name's values as text.
pub fn display(out: &mut String, names: &[String], columns: &[&StringArray], row: usize) {
    write(out, names, columns, row, |out, value| out.push_str(value));
}

/// The key by which rows are brought together: equal texts are equal keys. Names must be sorted.
pub fn canonical(out: &mut String, names: &[String], columns: &[&StringArray], row: usize) {
    write(out, names, columns, row, |out, value| {
        if value == "null" {
            out.push('\\');
        }
        escape(out, value);
    });
}

fn write(out: &mut String, names: &[String], columns: &[&StringArray], row: usize, value: impl Fn(&mut String, &str)) {
    out.push('{');
    for (i, (name, column)) in names.iter().zip(columns).enumerate() {
        if i > 0 {
            out.push(';');
        }
        escape(out, name);
        out.push('=');
        match column.is_null(row) {
            true => out.push_str("null"),
            false => value(out, column.value(row)),
        }
    }
    out.push('}');
}

/// Marks what separates names and values.
fn escape(out: &mut String, text: &str) {
    if !text.contains(['\\', ';', '=', '{', '}']) {
        return out.push_str(text);
    }
    for c in text.chars() {
        if matches!(c, '\\' | ';' | '=' | '{' | '}') {
            out.push('\\');
        }
        out.push(c);
    }
}

/// The names in a canonical key.
pub fn names(key: &str) -> Vec<String> {
    let (mut names, mut name) = (vec![], String::new());
    let (mut in_name, mut escaped) = (true, false);
    for c in key.strip_prefix('{').unwrap_or(key).chars() {
        match c {
            _ if escaped => {
                escaped = false;
                if in_name {
                    name.push(c);
                }
            }
            '\\' => escaped = true,
            '=' if in_name => {
                names.push(std::mem::take(&mut name));
                in_name = false;
            }
            ';' | '}' => in_name = true,
            _ if in_name => name.push(c),
            _ => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(names: &[&str], values: &[Option<&str>]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let columns: Vec<StringArray> = values.iter().map(|v| StringArray::from(vec![*v])).collect();
        let columns: Vec<&StringArray> = columns.iter().collect();
        let (mut shown, mut key) = (String::new(), String::new());
        display(&mut shown, &names, &columns, 0);
        canonical(&mut key, &names, &columns, 0);
        assert_eq!(super::names(&key), names, "{key}");
        (shown, key)
    }

    #[test]
    fn shown_and_told_apart() {
        let (shown, key) = both(&["payerId", "beneficiaryId"], &[Some("25"), Some("12")]);
        assert_eq!((shown.as_str(), key.as_str()), ("{payerId=25;beneficiaryId=12}", "{payerId=25;beneficiaryId=12}"));
        assert_eq!(both(&[], &[]).0, "{}");
        assert_ne!(both(&["a"], &[None]).1, both(&["a"], &[Some("null")]).1);
        assert_eq!(both(&["a"], &[None]).0, both(&["a"], &[Some("null")]).0);
        let one = both(&["a", "b"], &[Some("1;b=2"), Some("3")]).1;
        let other = both(&["a", "b"], &[Some("1"), Some("2;b=3")]).1;
        assert_ne!(one, other);
        assert_ne!(both(&["a", "b"], &[Some("x\\"), Some("y")]).1, both(&["a", "b"], &[Some("x"), Some("\\y")]).1);
        both(&["odd=name", "x;y", "{z}"], &[Some("="), Some("}"), None]);
    }
}
