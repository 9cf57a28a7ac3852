//! Mathematical functions.

pub(crate) mod elementary;
pub(crate) mod random;
pub(crate) mod round;
#[cfg(test)]
mod tests;
