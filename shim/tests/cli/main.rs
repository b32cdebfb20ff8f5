//! Drives the real `cofferdam` binary, as engines and people do.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "the helpers of a test fail and speak as the test itself does"
)]

mod bad_input;
mod denials;
mod exec;
mod harness;
mod helper;
mod lifecycle;
mod oracle;
mod output;
mod terminal;
