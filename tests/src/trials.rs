//! Tests as a list of functions, for binaries that share services between them.

use libtest_mimic::Trial;

/// A list of tests with their names: `tests![module::function, …]`.
#[macro_export]
macro_rules! tests {
    ($($module:ident::$name:ident),* $(,)?) => { &[$((concat!(stringify!($module), "::", stringify!($name)), $module::$name as fn())),*] };
}

/// The tests of such a list; each fails by a panic.
pub fn trials(tests: &[(&'static str, fn())]) -> Vec<Trial> {
    let trial = |(name, test): &(&'static str, fn())| {
        let test = *test;
        Trial::test(*name, move || {
            test();
            Ok(())
        })
    };
    tests.iter().map(trial).collect()
}
