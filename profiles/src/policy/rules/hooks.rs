//! OCI hooks: programs that the engine wants run on the host.

use oci_spec::runtime::{Hooks, Spec};

use crate::policy::judge::{Judge, Request};
use crate::policy::report::Rule;

/// Judges the hooks of a spec.
pub(crate) fn harden(spec: &mut Spec, judge: &mut Judge<'_>) {
    let count = spec.hooks().as_ref().map_or(0, count);
    if count == 0 {
        return;
    }
    let kept = judge.keeps(
        judge.policy.hooks,
        Request {
            rule: Rule::Hooks,
            field: "hooks",
            asked: format!("{count} hooks"),
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

fn count(hooks: &Hooks) -> usize {
    [
        hooks.prestart(),
        hooks.create_runtime(),
        hooks.create_container(),
        hooks.start_container(),
        hooks.poststart(),
        hooks.poststop(),
    ]
    .into_iter()
    .flatten()
    .map(Vec::len)
    .sum()
}
