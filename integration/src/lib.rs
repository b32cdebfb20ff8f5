//! Harness for the tests against real engines.
