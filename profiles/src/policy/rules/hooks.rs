//! OCI hooks: programs that the engine wants run on the host.

use oci_spec::runtime::Spec;

use crate::policy::facts;
use crate::policy::judge::{Judge, Request};
use crate::policy::report::Rule;

/// Judges the hooks of a spec.
pub(crate) fn harden(spec: &mut Spec, judge: &mut Judge<'_>) {
    let hooks = spec.hooks().iter().flat_map(facts::hooks);
    let paths: Vec<String> = hooks
        .map(|hook| hook.path().display().to_string())
        .collect();
    if paths.is_empty() {
        return;
    }
    let kept = judge.keeps(
        judge.policy.hooks,
        Request {
            rule: Rule::Hooks,
            field: "hooks",
            asked: format!("hooks: {}", paths.join(" ")),
            stripped: "no hooks",
            why: "hooks run on the host with the engine's rights",
            allow: "hooks = \"allow\"",
            instead: "configure the engine without hooks",
        },
    );
    if !kept {
        spec.set_hooks(None);
    }
}
