//! English names of months and days, as Java's locale `en_US` has them.

pub(crate) const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];

/// From Monday.
pub(crate) const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// Java's three-letter names.
pub(crate) fn short(name: &str) -> &str {
    name.get(..3).unwrap_or(name)
}

/// Which of the names the text begins with, from 0, and that name's length.
pub(crate) fn find(text: &str, names: &[&'static str], full: bool, ignore_case: bool) -> Option<(i64, usize)> {
    let of = |name: &'static str| if full { name } else { short(name) };
    let fits =
        |name: &str| text.get(..name.len()).is_some_and(|start| if ignore_case { start.eq_ignore_ascii_case(name) } else { start == name });
    let at = names.iter().position(|name| fits(of(name)))?;
    Some((at as i64, of(names[at]).len()))
}
