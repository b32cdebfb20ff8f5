//! Drives the real `cofferdam` binary, as engines and people do.

mod bad_input;
mod exec;
mod harness;
mod lifecycle;
mod oracle;
mod output;
mod terminal;
