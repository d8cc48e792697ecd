//! Reports as one HTML file each, with nothing fetched from anywhere: style, script and plots stand
//! in it. It is read without the script, too; the script adds figures under the pointer and the
//! choice between light and dark.

mod bars;
mod comparison;
mod markup;
mod one_run;
mod plot;
mod scale;

pub(crate) use comparison::compare;
pub(crate) use one_run::run;

#[cfg(test)]
mod tests;
