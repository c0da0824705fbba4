//! The documents: their links lead somewhere, their lines are short, their snippets run or are checked.
//!
//! | module | what it holds |
//! |---|---|
//! | [`page`] | a Markdown file: its code blocks, spans, links and headings |
//! | [`form`] | lines, links and the length of the README |
//! | [`snippets`] | every code block is run, checked, or listed with a reason |
//! | [`commands`] | every command of a block or a span exists, with its arguments |
//! | [`names`] | metrics, configuration keys and variables that a page names exist |
//! | [`readme`] | the README's worker, commands and programs run as they stand |

mod commands;
mod form;
mod http;
mod names;
mod page;
mod readme;
mod snippets;
