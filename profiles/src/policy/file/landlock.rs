//! The table `landlock` of a policy.

use super::decode::absolute;
use super::toml::{Problem, Table};
use crate::policy::landlock::{FileAccess, LandlockRules};

const FILES: &[(&str, FileAccess)] = &[("off", FileAccess::Off), ("mounts", FileAccess::Mounts)];

/// Whether what is outside can be reached.
const REACH: &[(&str, bool)] = &[("any", false), ("own", true)];

/// Takes the table into `rules`.
pub(super) fn decode(rules: &mut LandlockRules, table: &mut Table<'_>) -> Result<(), Problem> {
    let Some(mut table) = table.table("landlock")? else {
        return Ok(());
    };
    table.choice("files", FILES, &mut rules.files)?;
    table.set("documents", &mut rules.documents, |path| {
        absolute(path)?;
        Ok(path.into())
    })?;
    table.ports("tcp_bind", &mut rules.tcp_bind)?;
    table.ports("tcp_connect", &mut rules.tcp_connect)?;
    table.choice("signals", REACH, &mut rules.scope.signals)?;
    let key = "abstract_sockets";
    table.choice(key, REACH, &mut rules.scope.abstract_sockets)?;
    table.finish()
}
